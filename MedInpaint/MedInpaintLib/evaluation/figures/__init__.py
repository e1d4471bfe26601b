"""Evaluation, step 5: pictures of the fills and charts of their quality."""
