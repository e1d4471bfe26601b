"""Evaluation, step 1: healthy scans and the holes that are cut into them."""
