"""The settings of one run: the panel's state, the command's options, the JSON saved beside a result."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
MAXIMUM_GROWTH = 10.0  # mm
BLENDINGS = ("matern", "3d", "2d", "none")


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a result.

    Attributes:
        model: name of a shipped model, or the path of a model folder.
        device: "auto" takes CUDA, then Apple MPS, then the CPU.
        label: the mask's label that is the lesion; None takes every non-zero voxel.
        grow: mm by which the lesion is enlarged before it is filled: the rim of a real lesion is partly lesion, too.
        iterations: Adam steps of the latent optimisation at most (it stops early once settled).
        restarts: latent starts, of which those with the lowest loss are kept; None: as many as suits the kind of model.
        prior_weight: lambda of the prior loss; None: what suits the kind of model.
        window: side of the cubic window of the context weights, in model pixels (odd).
        weighting: weigh known pixels by how much of their window is hole (else all alike).
        prior: use the prior loss.
        residual: continue what G(z) leaves unexplained round the hole into it (kriging).
        blending: "matern", "3d" or "2d" (slice by slice) for Poisson's, or "none" to paste.
        texture: give the fill sharp edges and the scan's noise; without, it is the mean of what may be there.
        seed: seed of every random draw.
    """

    model: str = "vae3"
    device: str = "auto"
    label: int | None = None
    grow: float = 0.0
    iterations: int = 40
    restarts: int | None = None
    prior_weight: float | None = None
    window: int = 7
    weighting: bool = True
    prior: bool = True
    residual: bool = True
    blending: str = "matern"
    texture: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InputError(f"Unknown device '{self.device}': choose one of {', '.join(DEVICES)}.")
        if self.blending not in BLENDINGS:
            raise InputError(f"Unknown blending '{self.blending}': choose one of {', '.join(BLENDINGS)}.")
        if not 0 <= self.grow <= MAXIMUM_GROWTH:
            raise InputError(f"The lesion can be enlarged by 0 to {MAXIMUM_GROWTH:g} mm, not by {self.grow}.")
        if self.iterations < 0:
            raise InputError(f"The number of iterations must be 0 or more, not {self.iterations}.")
        if self.restarts is not None and self.restarts < 1:
            raise InputError(f"The number of restarts must be 1 or more, not {self.restarts}.")
        if self.prior_weight is not None and not 0 <= self.prior_weight < float("inf"):
            raise InputError(f"The prior weight must be a finite number of 0 or more, not {self.prior_weight}.")
        if self.window < 3 or self.window % 2 == 0:
            raise InputError(f"The context window must be an odd number of 3 pixels or more, not {self.window}.")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"The seed must be a whole number from 0 to 2^63 - 1, not {self.seed}.")
        if self.label is not None and self.label == 0:
            raise InputError("Label 0 is the background: choose another label.")

    def to_dict(self) -> dict:
        """The settings as plain JSON types."""
        return asdict(self)
