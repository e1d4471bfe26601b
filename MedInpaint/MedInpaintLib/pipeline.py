"""The method: check the scan, align it, search the latents, krige the residual, blend, and report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .errors import InputError, explain_out_of_memory
from .kept import Kept
from .models.registry import find_model
from .prediction import Prediction, blend, predict_together
from .report.run import run_report
from .search.fallback import with_fallback
from .settings import Settings
from .space.case import prepare_cases
from .space.slices import slices_on_scan, to_scan
from .volumes.image import like, with_voxels

if TYPE_CHECKING:
    import torch

    from .models.latent_model import LatentModel
    from .search.fallback import Report
    from .space.alignment import Alignment
    from .space.case import Case
    from .space.slices import Slices
    from .space.template import Template

Progress = Callable[[float, str, str], None]  # takes the fraction done, the stage and a message; may raise Cancelled


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        image: the scan with its hole filled. It has the same grid and pixel type, and all other voxels are
            bit-identical. The hole is the mask, enlarged by settings.grow without voxels of value 0.
        uncertainty: float32, the posterior standard deviation of the fill, in scan intensities; 0 outside the hole.
            None without settings.residual, and in Slicer unless it was asked for.
        report: measurements of the run, in plain JSON types; see `run_report`.
        hole: bool (z, y, x), the hole; None in Slicer, whose child does not send it.
        generate: makes `generated`; None in Slicer unless it was asked for.
    """

    image: sitk.Image
    uncertainty: sitk.Image | None
    report: dict
    hole: np.ndarray | None = None
    generate: Callable[[], sitk.Image] | None = None

    @cached_property
    def generated(self) -> sitk.Image:
        """Float32, the generated slices on the scan's grid before blending; 0 outside of the searched slices.

        Made when it is first asked for: it takes longer than the blending, and few need it.
        """
        assert self.generate is not None
        return self.generate()


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

    Returns a result for each scan. With several scans, each report has `together`: scan, its number; of, how many;
    moved_mm, how far the brain lies from where the first scan and the headers say, on average; and shown_by_others, the
    share of its hole that is filled with what other scans of the same contrast show there.

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
    together = list(zip(cases, predictions, strict=True))
    blended = [
        blend(case, prediction, settings, together[:n] + together[n + 1 :])
        for n, (case, prediction) in enumerate(together)
    ]
    images = [with_voxels(case.scan, new, case.hole) for case, (new, *_) in zip(cases, blended, strict=True)]
    clock.end("blending")

    reports = [
        run_report(case, found.search, new, deviation, found.rim, model, settings, used_device, clock.seconds, warnings)
        for case, found, (new, deviation, _) in zip(cases, predictions, blended, strict=True)
    ]
    if len(cases) > 1:
        for n, (report, case, (*_, shown)) in enumerate(zip(reports, cases, blended, strict=True), start=1):
            moved, shown = round(case.moved, 2), round(shown, 3)
            report["together"] = {"scan": n, "of": len(cases), "moved_mm": moved, "shown_by_others": shown}
    holes, deviations = [case.hole for case in cases], [deviation for _, deviation, _ in blended]
    makers = [
        partial(_generated, found.slices, found.stack, case.alignment.without_brain(), case.template)
        for case, found in zip(cases, predictions, strict=True)
    ]
    del cases, predictions, together, blended  # as large as the scans: free them before the next are allocated
    progress(1.0, "done", "finished")
    return [
        Result(image, None if deviation is None else like(image, deviation), report, hole, partial(maker, image))
        for image, deviation, report, hole, maker in zip(images, deviations, reports, holes, makers, strict=True)
    ]


def _predict_on(
    network: LatentModel,
    cases: Sequence[Case],
    settings: Settings,
    device: torch.device,
    chunk: int,
    progress: Report,
) -> list[Prediction]:
    return predict_together(network.to(device), cases, settings, progress, chunk)


def _generated(
    stack: np.ndarray, slices: Slices, alignment: Alignment, template: Template, image: sitk.Image
) -> sitk.Image:
    """`Result.generated`: the predicted slices on the grid of an image. Arguments as for `to_scan`."""
    there = slices_on_scan(image, slices, alignment, template)
    return like(image, to_scan(image, stack, slices, alignment, template) * there)


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
