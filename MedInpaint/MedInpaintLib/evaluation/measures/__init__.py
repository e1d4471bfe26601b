"""Evaluation, step 3: how good a fill is, and what it costs."""
