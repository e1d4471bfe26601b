"""The method: check the scan, align it, search the latents, krige the residual, blend, and report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .blending.blend import blend_into_scan, deviation_on_scan
from .blending.rim import Rim, find_rim
from .errors import explain_out_of_memory
from .kept import Kept
from .models.registry import find_model
from .report.run import run_report
from .search.fallback import with_fallback
from .settings import Settings
from .space.case import prepare_case
from .space.intensities import grey_is_brighter
from .space.slices import to_scan
from .volumes.image import like, with_voxels

if TYPE_CHECKING:
    import torch

    from .models.latent_model import LatentModel
    from .search.fallback import Report
    from .search.latent import Generated
    from .space.case import Case
    from .space.slices import Slices

FIRST = 0.8  # share of the progress of the first search; a second one follows if the mask is tight
UNKNOWN_RIM = Rim(None, None, 0.0)
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
    image: sitk.Image,
    mask: sitk.Image,
    settings: Settings | None = None,
    progress: Progress | None = None,
    kept: Kept | None = None,
) -> Result:
    """Fill the lesion of a T1-weighted brain MRI with the tissue a healthy brain would have there.

    Args:
        image: the scan, 3-D, brain-extracted or whole head, of any orientation, spacing and real pixel type.
        mask: the lesion, all voxels that are not 0 or have settings.label, on any grid in the same physical space.
        settings: the settings; None for the defaults.
        progress: called with the fraction done, the stage and a message; may raise Cancelled to stop the run.
        kept: what earlier runs in this process left, and this one leaves for the next; None for a run of its own.

    Raises:
        InputError: the input cannot be used, or there is not enough memory; its message says why and what to do.
    """
    from .search.device import choose_device

    settings = settings or Settings()
    progress = progress or (lambda fraction, stage, message: None)
    kept = kept or Kept()
    clock = _Clock()

    progress(0.0, "reading", "checking the scan and the mask")
    model, device = find_model(settings.model), choose_device(settings.device)
    template, network = kept.load(model)
    clock.end("reading")

    case = prepare_case(  # checks the input, aligns the scan, and cuts it into the model's slices
        image,
        mask,
        template,
        settings.label,
        settings.grow,
        lambda done, message: progress(0.05 + 0.2 * done, "aligning", message),
        kept.align,
    )
    clock.end("aligning")

    prediction, used_device, warnings = with_fallback(
        partial(_predict_on, network, case, settings),
        device,
        lambda done, message: progress(0.25 + 0.6 * done, "optimising", message),
    )
    clock.end("optimising")

    progress(0.85, "blending", "blending the generated tissue into the scan")
    filled, generated, deviation = blend(case, prediction, settings)
    result = with_voxels(image, filled, case.hole)
    clock.end("blending")

    report = run_report(
        case,
        prediction.search,
        filled,
        deviation,
        prediction.rim,
        model,
        settings,
        used_device,
        clock.seconds,
        warnings,
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
        stack: the slices of the scan that were searched; beside a tight mask they leave out the rim.
        rim: whether the mask looks tight.
        on_scan: the searched slices on the scan's grid, see `_search_on_scan`; None: not computed yet.
    """

    slices: np.ndarray
    deviation: np.ndarray | None
    search: Generated
    stack: Slices
    rim: Rim
    on_scan: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


def predict(
    network: LatentModel, case: Case, settings: Settings, progress: Report, chunk: int | None = None
) -> Prediction:
    """Predict the slices of a case. If its mask turns out to be tight, predict again without the rim beside the hole.

    Args:
        network: the model, on its device.
        case: the aligned scan and its hole.
        settings: those of the search, and residual.
        progress: called with the fraction done and a message; may raise Cancelled.
        chunk: number of slices to decode at once; None for the default.
    """
    count = case.template.image.GetSize()[2]
    first = generate(network, case.slices, count, settings, lambda done, text: progress(FIRST * done, text), chunk)
    if settings.slicewise:  # nothing but the search of the paper
        return first
    generated, tissue, valid = _search_on_scan(case, first)
    rim = find_rim(case, generated, tissue, valid, grey_is_brighter(first.search.curve))
    if not rim.tight:
        return replace(first, rim=rim, on_scan=(generated, tissue, valid))
    stack = case.without_rim(rim.width).slices
    second = generate(
        network, stack, count, settings, lambda done, text: progress(FIRST + (1 - FIRST) * done, text), chunk
    )
    return replace(second, rim=rim)


def _predict_on(
    network: LatentModel, case: Case, settings: Settings, device: torch.device, chunk: int, progress: Report
) -> Prediction:
    return predict(network.to(device), case, settings, progress, chunk)


def generate(
    network: LatentModel, slices: Slices, count: int, settings: Settings, progress: Report, chunk: int | None = None
) -> Prediction:
    """Search the latents of the slices, decode them, and krige the residual. Arguments as for `search`."""
    from .blending.residual import krige_residual
    from .search.device import algebra_device
    from .search.latent import CHUNK, search

    generated, components = search(network, slices, count, settings, progress, chunk or CHUNK)
    if not settings.residual:
        return Prediction(generated.slices, None, generated, slices, UNKNOWN_RIM)
    mean, deviation = krige_residual(generated.slices, slices, components, algebra_device(network))
    return Prediction(mean, deviation, generated, slices, UNKNOWN_RIM)


def blend(case: Case, prediction: Prediction, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Carry the predicted slices to the scan's grid and blend.

    Returns the hole's new values (n,) in the order of `case.values[case.hole]`; float32 (z, y, x), the predicted slices
    in scan intensities, 0 elsewhere; and float32 (z, y, x), the standard deviation of the fill, or None.
    """
    case = replace(case, slices=prediction.stack)
    source, valid = to_scan(case.scan, prediction.slices, case.slices, case.alignment, case.template)
    generated, tissue, _ = prediction.on_scan or _search_on_scan(case, prediction)
    bright = grey_is_brighter(prediction.search.curve)
    filled, noise = blend_into_scan(case, source, generated, tissue, valid, settings, prediction.rim.tight, bright)
    deviation = None if prediction.deviation is None else deviation_on_scan(case, prediction.deviation, noise)
    return filled, source * valid, deviation


def _search_on_scan(case: Case, prediction: Prediction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """G(z) on the scan's grid, (z, y, x): in scan intensities, in the model's own, and where both are defined."""
    own = replace(case.slices, scale=1.0, floor=0.0)
    found = prediction.search
    generated, valid = to_scan(case.scan, found.slices, case.slices, case.alignment, case.template)
    return generated, to_scan(case.scan, found.tissue, own, case.alignment, case.template)[0], valid


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
