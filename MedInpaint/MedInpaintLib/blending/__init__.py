"""Step 3 of the method: the residual is continued into the hole, and the generated slices are blended into the scan."""
