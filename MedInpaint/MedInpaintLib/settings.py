"""The settings of one run: state of the panel, options of the command, part of the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
MAXIMUM_GROWTH = 10.0  # mm
BLENDINGS = ("matern", "3d", "2d", "none")
PRESETS: dict[str, dict] = {
    # Yeh et al. 2017: each slice alone, context and prior loss, Poisson blending, nothing else.
    "study": {"model": "vae3", "iterations": 200, "slicewise": True, "residual": False, "blending": "2d"},
}


@dataclass(frozen=True)
class Settings:
    """Everything that determines a result.

    Attributes:
        model: name of a shipped model, or the path of a model's folder.
        device: "auto" takes CUDA, else Apple MPS, else the CPU.
        label: the value that marks the lesion in the mask; None takes every non-zero voxel.
        grow: enlarge the lesion by this distance (mm) before it is filled, because its rim is often partly lesion.
        iterations: largest number of Adam steps of the latent search, which stops earlier when the loss is stable.
        prior_weight: lambda of the prior loss; None: the model's default.
        window: side of the cubic window of the context weights, in model pixels (odd).
        weighting: weigh a known pixel by the share of hole in its window; without, all weigh the same.
        prior: use the prior loss.
        slicewise: search each slice alone, without deformation and contrast curve, as in the paper.
        residual: continue the residual, scan minus G(z), from the ring around the hole into the hole (kriging).
        blending: "matern", "3d" (Poisson), "2d" (Poisson, slice by slice) or "none" (paste).
        noise: add noise like the scan's to the fill; it looks more natural, and each voxel is less accurate.
        seed: seed of every random draw.
    """

    model: str = "linear"
    device: str = "auto"
    label: int | None = None
    grow: float = 0.0
    iterations: int = 40
    prior_weight: float | None = None
    window: int = 7
    weighting: bool = True
    prior: bool = True
    slicewise: bool = False
    residual: bool = True
    blending: str = "matern"
    noise: bool = False
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
        if self.prior_weight is not None and not 0 <= self.prior_weight < float("inf"):
            raise InputError(f"The prior weight must be a finite number of 0 or more, not {self.prior_weight}.")
        if self.window < 3 or self.window % 2 == 0:
            raise InputError(f"The context window must be an odd number of 3 pixels or more, not {self.window}.")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"The seed must be a whole number from 0 to 2^63 - 1, not {self.seed}.")
        if self.label is not None and self.label == 0:
            raise InputError("Label 0 is the background: choose another label.")

    @classmethod
    def preset(cls, name: str, **changes: object) -> Settings:
        """The settings of a preset ("study"), with some changed. Raises InputError if there is no such preset."""
        if name not in PRESETS:
            raise InputError(f"Unknown preset '{name}': choose one of {', '.join(PRESETS)}.")
        return cls(**{**PRESETS[name], **changes})

    def to_dict(self) -> dict:
        """The settings as plain JSON types."""
        return asdict(self)
