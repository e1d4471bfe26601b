"""Step 4 of the method: what a run did, as measurements and as a picture."""
