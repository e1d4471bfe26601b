"""The generative models for step 2 of the method: their networks, their files and how to find one by name."""
