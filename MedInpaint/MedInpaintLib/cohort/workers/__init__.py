"""The workers of a cohort: a Dask cluster, and how it gets its jobs."""
