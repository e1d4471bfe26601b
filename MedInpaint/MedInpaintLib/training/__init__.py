"""Training: the losses and the optimisation of each kind of model."""
