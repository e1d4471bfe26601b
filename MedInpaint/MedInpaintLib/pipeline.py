"""The method: check the scan, align it, search the latents, krige the residual, blend, and report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .blending.blend import blend_into_scan, deviation_on_scan
from .blending.rim import Rim, find_rim
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
    from .space.case import Case
    from .space.slices import Slices

Progress = Callable[[float, str, str], None]  # takes the fraction done, the stage and a message; may raise Cancelled


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        image: the scan with its hole filled. It has the same grid and pixel type, and all other voxels are
            bit-identical. The hole is the mask, enlarged by settings.grow without voxels of value 0.
        generated: float32, the generated slices on the scan's grid before blending; 0 outside of the searched slices.
        uncertainty: float32, the posterior standard deviation of the fill, in scan intensities; 0 outside the hole.
            None without settings.residual.
        report: measurements of the run, in plain JSON types; see `run_report`.
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
        image: the scan, 3-D, brain-extracted or whole head, of any orientation, spacing and real pixel type.
        mask: the lesion, all voxels that are not 0 or have settings.label, on any grid in the same physical space.
        settings: the settings; None for the defaults.
        progress: called with the fraction done, the stage and a message; may raise Cancelled to stop the run.

    Raises:
        InputError: the input cannot be used, or there is not enough memory; its message says why and what to do.
    """
    from .search.device import choose_device

    settings = settings or Settings()
    progress = progress or (lambda fraction, stage, message: None)
    clock = _Clock()

    progress(0.0, "reading", "checking the scan and the mask")
    model, device = find_model(settings.model), choose_device(settings.device)
    template, network = model.template(), model.network(choose_device("cpu"))
    clock.end("reading")

    case = prepare_case(  # checks the input, aligns the scan, and cuts it into the model's slices
        image,
        mask,
        template,
        settings.label,
        settings.grow,
        lambda done, message: progress(0.05 + 0.2 * done, "aligning", message),
    )
    clock.end("aligning")

    slices, count = case.slices, template.image.GetSize()[2]
    prediction, used_device, warnings = with_fallback(
        lambda place, chunk, report: generate(network.to(place), slices, count, settings, report, chunk),
        device,
        lambda done, message: progress(0.25 + 0.6 * done, "optimising", message),
    )
    clock.end("optimising")

    progress(0.85, "blending", "blending the generated tissue into the scan")
    filled, generated, noise, rim = blend(case, prediction, settings)
    result = with_voxels(image, filled, case.hole)
    deviation = None if prediction.deviation is None else deviation_on_scan(case, prediction.deviation, noise)
    clock.end("blending")

    report = run_report(
        case, prediction.search, filled, deviation, rim, model, settings, used_device, clock.seconds, warnings
    )
    del case  # its arrays have the size of the scan: free them before the next ones are allocated
    progress(1.0, "done", "finished")
    return Result(result, like(image, generated), None if deviation is None else like(image, deviation), report)


@dataclass(frozen=True)
class Prediction:
    """The model's prediction of the slices.

    Attributes:
        slices: float32 (n, h, w), model intensities: G(z), and with settings.residual the posterior mean in the hole.
        deviation: float32 (n, h, w), the posterior standard deviation in the hole, 0 elsewhere; None without
            settings.residual.
        search: the result of the latent search.
    """

    slices: np.ndarray
    deviation: np.ndarray | None
    search: Generated


def generate(
    network: VAE | GAN, slices: Slices, count: int, settings: Settings, progress: Report, chunk: int | None = None
) -> Prediction:
    """Search the latents of the slices, decode them, and krige the residual. Arguments as for `search`."""
    from .blending.residual import krige_residual
    from .search.device import algebra_device
    from .search.latent import CHUNK, search

    generated, components = search(network, slices, count, settings, progress, chunk or CHUNK)
    if not settings.residual:
        return Prediction(generated.slices, None, generated)
    mean, deviation = krige_residual(generated.slices, slices, components, algebra_device(network))
    return Prediction(mean, deviation, generated)


def blend(case: Case, prediction: Prediction, settings: Settings) -> tuple[np.ndarray, np.ndarray, float, Rim]:
    """Carry the predicted slices to the scan's grid, look for a dark rim outside the mask, and blend.

    Returns the hole's new values (n,); float32 (z, y, x), the predicted slices in scan intensities, 0 elsewhere; the
    noise level of the scan; and the rim.
    """
    source, valid = to_scan(case.scan, prediction.slices, case.slices, case.alignment, case.template)
    generated, _ = to_scan(case.scan, prediction.search.slices, case.slices, case.alignment, case.template)
    rim = find_rim(case, generated, valid)
    filled, noise = blend_into_scan(case, source, generated, valid, rim.tight, settings)
    return filled, source * valid, noise, rim


class _Clock:
    """Measures the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    def end(self, stage: str) -> None:
        """End a stage and begin the next one."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._started, 3)
        self._started = now
