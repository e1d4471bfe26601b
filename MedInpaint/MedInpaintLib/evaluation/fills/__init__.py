"""Evaluation, step 2: the methods that fill the holes."""
