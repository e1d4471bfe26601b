"""Training, step 1: from scans to a template and a file of model-space slices."""
