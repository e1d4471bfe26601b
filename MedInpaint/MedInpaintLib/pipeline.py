"""The method: check the scan, align it, search the latents, krige the residual, blend, and report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .blending.blend import blend_into_scan, box_near_hole, deviation_on_scan
from .blending.rim import Rim, find_rim
from .errors import InputError, explain_out_of_memory
from .kept import Kept
from .models.registry import find_model
from .report.run import run_report
from .search.fallback import with_fallback
from .settings import Settings
from .space.case import cut_together, prepare_cases
from .space.intensities import grey_is_brighter
from .space.slices import Tissue, to_scan
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
        hole: bool (z, y, x), the hole; None in Slicer, whose child does not send it.
    """

    image: sitk.Image
    generated: sitk.Image
    uncertainty: sitk.Image | None
    report: dict
    hole: np.ndarray | None = None


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
    return inpaint_together([image], [mask], settings, progress, kept)[0]


@explain_out_of_memory()
def inpaint_together(
    images: Sequence[sitk.Image],
    masks: Sequence[sitk.Image | None],
    settings: Settings | None = None,
    progress: Progress | None = None,
    kept: Kept | None = None,
) -> list[Result]:
    """Fill several scans of one head with one anatomy: several contrasts, or several times.

    The first scan is aligned with the model; a T1-weighted scan is best. The others are registered to it rigidly, and
    each is filled on its own grid with its own contrast.

    Args:
        images: the scans.
        masks: the lesion in each scan, None for that of the first scan. The first scan needs one.
        settings, progress, kept: as for `inpaint`.

    Returns a result for each scan. With several scans, each report has `together`: scan, its number; of, how many; and
    moved_mm, how far the brain lies from where the first scan and the headers say, on average.

    Raises InputError as `inpaint`; the message says which scan it is about.
    """
    from .search.device import choose_device

    settings = settings or Settings()
    if len(images) > 1 and settings.slicewise:
        raise InputError("Several scans need the contrast curve: leave out slicewise and the preset study.")
    progress = progress or (lambda fraction, stage, message: None)
    kept = kept or Kept()
    clock = _Clock()

    progress(0.0, "reading", "checking the scan and the mask")
    model, device = find_model(settings.model), choose_device(settings.device)
    template, network = kept.load(model)
    clock.end("reading")

    cases = prepare_cases(  # checks the input, aligns the scans, and cuts them into the model's slices
        images,
        masks,
        template,
        settings.label,
        settings.grow,
        lambda done, message: progress(0.05 + 0.2 * done, "aligning", message),
        kept.align,
    )
    clock.end("aligning")

    predictions, used_device, warnings = with_fallback(
        partial(_predict_on, network, cases, settings),
        device,
        lambda done, message: progress(0.25 + 0.6 * done, "optimising", message),
    )
    clock.end("optimising")

    progress(0.85, "blending", "blending the generated tissue into the scan")
    blended = [blend(case, prediction, settings) for case, prediction in zip(cases, predictions, strict=True)]
    images = [with_voxels(case.scan, new, case.hole) for case, (new, *_) in zip(cases, blended, strict=True)]
    clock.end("blending")

    reports = [
        run_report(case, found.search, new, deviation, found.rim, model, settings, used_device, clock.seconds, warnings)
        for case, found, (new, _, deviation) in zip(cases, predictions, blended, strict=True)
    ]
    if len(cases) > 1:
        for number, (report, moved) in enumerate(zip(reports, [case.moved for case in cases], strict=True), start=1):
            report["together"] = {"scan": number, "of": len(cases), "moved_mm": round(moved, 2)}
    made = [(case.hole, generated, deviation) for case, (_, generated, deviation) in zip(cases, blended, strict=True)]
    del cases, predictions, blended  # they have the size of the scans: free them before the next ones are allocated
    progress(1.0, "done", "finished")
    return [
        Result(image, like(image, generated), None if deviation is None else like(image, deviation), report, hole)
        for image, report, (hole, generated, deviation) in zip(images, reports, made, strict=True)
    ]


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
        tissue: G(z) on the scan's grid near the hole, see `box_near_hole`; None: not computed yet.
    """

    slices: np.ndarray
    deviation: np.ndarray | None
    search: Generated
    stack: Slices
    rim: Rim
    tissue: Tissue | None = None


def predict(
    network: LatentModel, case: Case, settings: Settings, progress: Report, chunk: int | None = None
) -> Prediction:
    """Predict the slices of a case. Arguments as for `predict_together`."""
    return predict_together(network, [case], settings, progress, chunk)[0]


def predict_together(
    network: LatentModel, cases: Sequence[Case], settings: Settings, progress: Report, chunk: int | None = None
) -> list[Prediction]:
    """Predict the slices of cases of one head. If a mask turns out to be tight, predict again without its rim.

    Args:
        network: the model, on its device.
        cases: the aligned scans and their holes, with slices at the same heights.
        settings: those of the search, and residual.
        progress: called with the fraction done and a message; may raise Cancelled.
        chunk: number of slices to decode at once; None for the default.
    """
    count = cases[0].template.image.GetSize()[2]

    def generate_all(cases: Sequence[Case], begin: float, share: float) -> list[Prediction]:
        stacks = [case.slices for case in cases]
        return generate(
            network, stacks, count, settings, lambda done, text: progress(begin + share * done, text), chunk
        )

    first = generate_all(cases, 0.0, FIRST)
    if settings.slicewise:  # nothing but the search of the paper
        return first
    judged = []
    for case, prediction in zip(cases, first, strict=True):
        near = case.crop(box_near_hole(case))
        tissue = tissue_on_scan(near, prediction)
        judged.append(replace(prediction, rim=find_rim(near, tissue), tissue=tissue))
    if not any(each.rim.tight for each in judged):
        return judged
    second = generate_all(cut_together(cases, [each.rim.width for each in judged]), FIRST, 1 - FIRST)
    return [replace(new, rim=each.rim) for new, each in zip(second, judged, strict=True)]


def _predict_on(
    network: LatentModel,
    cases: Sequence[Case],
    settings: Settings,
    device: torch.device,
    chunk: int,
    progress: Report,
) -> list[Prediction]:
    return predict_together(network.to(device), cases, settings, progress, chunk)


def generate(
    network: LatentModel,
    stacks: Sequence[Slices],
    count: int,
    settings: Settings,
    progress: Report,
    chunk: int | None = None,
) -> list[Prediction]:
    """Search the latents of the slices, decode them, and krige each residual. Arguments as for `search_together`."""
    from .blending.residual import krige_residual, residual_noise
    from .search.device import algebra_device
    from .search.latent import CHUNK, search_together

    found = search_together(network, stacks, count, settings, progress, chunk or CHUNK)
    if not settings.residual:
        return [
            Prediction(generated.slices, None, generated, slices, UNKNOWN_RIM)
            for slices, (generated, _) in zip(stacks, found, strict=True)
        ]
    predictions = []
    for slices, (generated, components) in zip(stacks, found, strict=True):
        noise = residual_noise(slices, generated.curve)
        mean, deviation = krige_residual(generated.slices, slices, components, algebra_device(network), noise)
        predictions.append(Prediction(mean, deviation, generated, slices, UNKNOWN_RIM))
    return predictions


def blend(case: Case, prediction: Prediction, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Carry the predicted slices to the scan's grid and blend.

    Returns the hole's new values (n,) in the order of `case.values[case.hole]`; float32 (z, y, x), the predicted slices
    in scan intensities, 0 elsewhere; and float32 (z, y, x), the standard deviation of the fill, or None.
    """
    case = replace(case, slices=prediction.stack)
    source, valid = to_scan(case.scan, prediction.slices, case.slices, case.alignment, case.template)
    box = box_near_hole(case)
    near = case.crop(box)
    tissue = prediction.tissue or tissue_on_scan(near, prediction)
    filled, noise = blend_into_scan(near, source[box], tissue, settings, prediction.rim.tight)
    deviation = None if prediction.deviation is None else deviation_on_scan(case, prediction.deviation, noise)
    return filled, source * valid, deviation


def tissue_on_scan(case: Case, prediction: Prediction) -> Tissue:
    """G(z) on the grid of the case's scan."""
    own = replace(case.slices, scale=1.0, floor=0.0)
    found = prediction.search
    scan_like, valid = to_scan(case.scan, found.slices, case.slices, case.alignment, case.template)
    model_like, _ = to_scan(case.scan, found.tissue, own, case.alignment, case.template)
    return Tissue(scan_like, model_like, valid, grey_is_brighter(found.curve))


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
