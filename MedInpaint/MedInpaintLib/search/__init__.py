"""Step 2 of the method: the latent search finds the slices that agree with the scan around the hole."""
