"""Reports of a cohort: a page for each participant, and a table and a page for all."""
