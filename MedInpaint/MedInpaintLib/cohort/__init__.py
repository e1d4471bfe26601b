"""Cohorts: the scans and masks of a BIDS dataset, filled by many workers, with derivatives and reports."""
