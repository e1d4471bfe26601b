"""The method: find the latents whose slices agree with the surroundings, decode them, blend them in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .blending.blend import blend_into_scan, deviation_on_scan
from .errors import explain_out_of_memory
from .models.registry import find_model
from .report.run import run_report
from .search.fallback import with_fallback
from .settings import Settings
from .space.case import prepare_case
from .space.slices import to_scan
from .volumes.image import like, with_voxels

if TYPE_CHECKING:
    from .models.gan import GAN
    from .models.vae import VAE
    from .search.fallback import Report
    from .search.latent import Generated
    from .space.slices import Slices

Progress = Callable[[float, str, str], None]  # fraction done, stage, message; raises Cancelled to stop the run


@dataclass(frozen=True)
class Result:
    """What a run returns.

    Attributes:
        image: the scan with its hole filled: same grid, same pixel type, every other voxel bit-identical. The hole is
            the mask and what lies within settings.grow of it, voxels of 0 left out.
        generated: float32, G(z) on the scan's grid before blending; 0 beyond the slices that were searched.
        uncertainty: float32, how far the truth may lie from the fill: a standard deviation in the scan's intensities;
            0 outside the hole. None without settings.residual.
        report: measurements of the run, plain JSON types.
    """

    image: sitk.Image
    generated: sitk.Image
    uncertainty: sitk.Image | None
    report: dict


@explain_out_of_memory()
def inpaint(
    image: sitk.Image, mask: sitk.Image, settings: Settings | None = None, progress: Progress | None = None
) -> Result:
    """Fill the lesion of a T1-weighted brain MRI with the tissue a healthy brain would have there.

    Args:
        image: the scan, 3-D, any orientation, spacing and real pixel type; brain-extracted or whole head.
        mask: the lesion, non-zero or settings.label, on any grid in the same physical space.
        settings: how; the defaults if None.
        progress: called with the done fraction, the stage and a message; raises Cancelled to stop the run.

    Raises:
        InputError: the input cannot be used, or memory does not suffice; its message says why and what to do.
    """
    from .search.device import choose_device

    settings = settings or Settings()
    progress = progress or (lambda fraction, stage, message: None)
    clock = Clock()
    progress(0.0, "reading", "checking the scan and the mask")
    model = find_model(settings.model)
    device = choose_device(settings.device)
    template = model.template()
    network = model.network(choose_device("cpu"))
    clock.lap("reading")
    case = prepare_case(
        image,
        mask,
        template,
        settings.label,
        settings.grow,
        lambda done, message: progress(0.05 + 0.2 * done, "aligning", message),
    )
    clock.lap("aligning")
    slices, count = case.slices, template.image.GetSize()[2]
    found, used_device, warnings = with_fallback(
        lambda place, chunk, report: generate(network.to(place), slices, count, settings, report, chunk),
        device,
        lambda done, message: progress(0.25 + 0.6 * done, "optimising", message),
    )
    clock.lap("optimising")
    progress(0.85, "blending", "blending the generated tissue into the scan")
    source, valid = to_scan(case.scan, found.slices, case.slices, case.alignment, case.template)
    filled = blend_into_scan(case, source, valid, settings)
    result = with_voxels(image, filled, case.hole)
    deviation = None if found.deviation is None else deviation_on_scan(case, found.deviation)
    clock.lap("blending")
    report = run_report(case, found.search, filled, deviation, model, settings, used_device, clock.seconds, warnings)
    del case  # it holds arrays of the scan's size, as those are that follow
    source *= valid
    shown = like(image, source)
    del source, valid
    progress(1.0, "done", "finished")
    return Result(result, shown, None if deviation is None else like(image, deviation), report)


@dataclass(frozen=True)
class Found:
    """What the model says about the hole.

    Attributes:
        slices: float32 (n, h, w), model intensities: G(z), plus the kriged residual if settings.residual.
        deviation: float32 (n, h, w), the posterior standard deviation in the hole, 0 elsewhere; None without residual.
        search: what the latent search found.
    """

    slices: np.ndarray
    deviation: np.ndarray | None
    search: Generated


def generate(
    network: VAE | GAN, slices: Slices, count: int, settings: Settings, progress: Report, chunk: int | None = None
) -> Found:
    """Search the latents of the slices and decode them; krige the residual round the hole into it.

    Args: as for search.latent.search.
    """
    from .blending.residual import krige_residual
    from .search.device import algebra_device
    from .search.latent import CHUNK, search

    found, components = search(network, slices, count, settings, progress, chunk or CHUNK)
    if not settings.residual:
        return Found(found.slices, None, found)
    mean, deviation = krige_residual(found.slices, slices, components, algebra_device(network))
    return Found(mean, deviation, found)


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._started, 3)
        self._started = now
