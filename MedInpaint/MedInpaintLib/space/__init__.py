"""Step 1 of the method: the scan is aligned with the model's space and cut into axial slices."""
