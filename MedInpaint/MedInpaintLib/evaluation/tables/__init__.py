"""Evaluation, step 4: the table of all fills, its summary, and the study's claims."""
