"""The Adam optimiser with cosine annealing.

It replaces torch.optim's Adam, which loads torch's compiler at its first use. That takes longer than most searches.

Sources: Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1; Loshchilov & Hutter, "SGDR:
stochastic gradient descent with warm restarts", ICLR 2017, eq. 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

DECAY, SQUARED_DECAY = 0.9, 0.999  # beta_1, beta_2
EPSILON = 1e-8


class Adam:
    """Adam for a few variables, each with its learning rate.

    Args:
        variables: pairs of a leaf tensor and its learning rate at the first step.
        steps: the number of steps after which the learning rates are 0.
    """

    def __init__(self, variables: Sequence[tuple[Tensor, float]], steps: int):
        self.variables, self.steps, self.taken = variables, steps, 0
        self.means = [(torch.zeros_like(variable), torch.zeros_like(variable)) for variable, _ in variables]

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the variables' gradients, and remove the gradients."""
        annealed = (1 + math.cos(math.pi * self.taken / self.steps)) / 2
        self.taken += 1
        bias, squared_bias = 1 - DECAY**self.taken, 1 - SQUARED_DECAY**self.taken
        for (variable, rate), (mean, square) in zip(self.variables, self.means, strict=True):
            gradient = variable.grad
            assert gradient is not None
            mean.lerp_(gradient, 1 - DECAY)
            square.lerp_(gradient**2, 1 - SQUARED_DECAY)
            variable.addcdiv_(mean, (square / squared_bias).sqrt_().add_(EPSILON), value=-annealed * rate / bias)
            variable.grad = None
