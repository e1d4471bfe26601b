"""The method: find the latents whose slices agree with the surroundings, decode them, blend them in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from .alignment import Alignment, Template, align
from .blending import harmonic_fill, poisson_blend
from .errors import InputError
from .fallback import enough_memory, search_with_fallback
from .image import box_round, check_scan, grown, hole_on_grid, like, ring, scan_values, spacing_zyx, with_voxels
from .matern import matern_blend
from .models import find_model
from .report import run_report
from .settings import Settings
from .slices import Slices, intensity_floor, sd_to_scan, to_scan, to_slices
from .texture import SURROUNDINGS, grain, measured_noise, sharpened

DARK_LESION, DARK_RIM = 0.05, 0.01  # below what was generated, in model intensities
RIM = 2.1  # mm round the mask that may be lesion
RIM_TRUST = 1e-4  # of a known voxel that is likely lesion

Progress = Callable[[float, str, str], None]  # fraction done, stage, message; raises Cancelled to stop the run


@dataclass(frozen=True)
class Result:
    """What a run returns.

    Attributes:
        image: the scan with its hole filled: same grid, same pixel type, every other voxel bit-identical. The hole is
            the mask and what lies within settings.grow of it, voxels of 0 left out.
        generated: float32, G(z) on the scan's grid before blending; 0 beyond the slices that were searched.
        uncertainty: float32, how far the truth may lie from the fill: a standard deviation in the scan's intensities;
            0 outside the hole. None without conditioning.
        report: measurements of the run, plain JSON types.
    """

    image: sitk.Image
    generated: sitk.Image
    uncertainty: sitk.Image | None
    report: dict


@dataclass(frozen=True)
class Case:
    """A scan and its hole, aligned with a model's space.

    Attributes:
        scan: the input image.
        values: float32 (z, y, x), its voxels.
        hole: bool (z, y, x).
        template: of the model.
        alignment: scan <-> template.
        slices: the model-space slices that the hole touches, and their neighbours.
    """

    scan: sitk.Image
    values: np.ndarray
    hole: np.ndarray
    template: Template
    alignment: Alignment
    slices: Slices

    def within(self, box: tuple[slice, ...]) -> Case:
        """The case cut to a box (z, y, x) of the scan's voxels; the slices stay as they are."""
        alignment = replace(self.alignment, brain=self.alignment.brain[box])
        scan, values, hole = self.scan[box[::-1]], self.values[box], self.hole[box]
        return replace(self, scan=scan, values=values, hole=hole, alignment=alignment)


@enough_memory()
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
    from .latent import choose_device

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
    generated, searched_on, warnings = search_with_fallback(
        network,
        device,
        case.slices,
        template.image.GetSize()[2],
        settings,
        lambda done, message: progress(0.25 + 0.6 * done, "optimising", message),
    )
    clock.lap("optimising")
    progress(0.85, "blending", "blending the generated tissue into the scan")
    source, valid = to_scan(case.scan, generated.slices, case.slices, case.alignment, case.template)
    filled = finished(case, source, valid, settings)
    result = with_voxels(image, filled, case.hole)
    sd = None if generated.sd is None else uncertainty(case, generated.sd)
    clock.lap("blending")
    report = run_report(case, generated, filled, sd, model, settings, searched_on, clock.seconds, warnings)
    del case  # it holds arrays of the scan's size, as those are that follow
    source *= valid
    shown = like(image, source)
    del source, valid
    progress(1.0, "done", "finished")
    return Result(result, shown, None if sd is None else like(image, sd), report)


def prepare_case(
    image: sitk.Image,
    mask: sitk.Image,
    template: Template,
    label: int | None = None,
    grow: float = 0.0,
    progress: Callable[[float, str], None] = lambda done, message: None,
) -> Case:
    """Check the input, align it, cut it into slices. Raises InputError if it cannot be used.

    `label` and `grow` are those of Settings; `progress` is called with the done fraction and a message, and may raise
    Cancelled.
    """
    progress(0.0, "registering the model's template to the scan")
    values, hole = checked_input(image, mask, label, grow)
    floor = intensity_floor(values, hole)
    signal = np.where(values == 0, 0, np.maximum(values - floor, 0)) if floor else values
    alignment = align(image, signal, hole, template)
    inside, brain = np.count_nonzero(hole & alignment.brain), np.count_nonzero(alignment.brain)
    if inside == 0:
        raise InputError("The mask lies outside the brain: check that it belongs to this scan.")
    if inside > 0.5 * brain:
        raise InputError("The mask covers more than half of the brain: mark the lesion only.")
    if np.count_nonzero(hole) > brain:
        raise InputError("The mask is larger than the brain: mark the lesion only.")
    progress(0.6, "cutting the scan into the model's slices")
    slices = replace(to_slices(image, signal, hole, alignment, template), floor=floor)
    return Case(image, values, hole, template, alignment, slices)


def checked_input(image: sitk.Image, mask: sitk.Image, label: int | None, grow: float) -> tuple[np.ndarray, np.ndarray]:
    """The scan's voxels, float32, and its hole, bool, both (z, y, x). Raises InputError if they cannot be used.

    `label` and `grow` are those of Settings.
    """
    check_scan(image)
    hole = hole_on_grid(mask, image, label)
    values = scan_values(image, hole)
    return values, grown(hole, values != 0, spacing_zyx(image), grow)


def finished(case: Case, source: np.ndarray, valid: np.ndarray, settings: Settings) -> np.ndarray:
    """The hole's new values, float64 (n,) in the order of values[hole].

    Args:
        source, valid: of to_scan: G(z) on the scan's grid, and where it is defined.
        settings: blending, texture and seed.
    """
    box = box_round(case.hole, SURROUNDINGS)  # what lies beyond has no say: cost grows with the hole
    case, source, valid = case.within(box), source[box], valid[box]
    noise = measured_noise(case.values, case.hole, case.alignment.brain)
    if settings.texture:
        source = sharpened(source, case.hole, spacing_zyx(case.scan))
    if settings.blending == "matern":
        filled = matern(case, source, valid, noise.level)
    else:
        filled = poisson(case, source, settings.blending)
    if settings.texture:
        result = case.values.copy()
        result[case.hole] = filled
        filled = filled + grain(result, case.hole, noise, settings.seed)
    return filled


def poisson(case: Case, source: np.ndarray, blending: str) -> np.ndarray:
    """The hole's new values (n,) from G(z) on the scan's grid; blending is "3d", "2d" or "none"."""
    if blending == "none":
        return source[case.hole]
    # Outside a head's brain the model knows nothing: there the fill continues the surroundings smoothly.
    guide = None if case.alignment.extracted else case.alignment.brain
    return poisson_blend(case.values, source, case.hole, spacing_zyx(case.scan), guide, slicewise=blending == "2d")


def matern(case: Case, source: np.ndarray, valid: np.ndarray, noise: float) -> np.ndarray:
    """The hole's new values (n,) from G(z) on the scan's grid; noise is the scan's, a standard deviation."""
    known, hole, spacing, scale = case.values, case.hole, spacing_zyx(case.scan), case.slices.scale
    trust = np.where(suspect_rim(case, source), RIM_TRUST, 1) * valid
    if case.alignment.extracted:
        return matern_blend(known, source, hole, spacing, trust, scale, noise)
    brain = case.alignment.brain
    inside, outside = hole & brain, hole & ~brain
    filled = known.copy()
    filled[inside] = matern_blend(known, source, inside, spacing, trust * brain, scale, noise)
    if outside.any():
        filled[outside] = harmonic_fill(filled, outside, spacing)
    return filled[hole]


def suspect_rim(case: Case, source: np.ndarray) -> np.ndarray:
    """Known voxels that are likely lesion, bool (z, y, x): near a dark lesion and themselves too dark.

    Masks of lesions are often tight, and what is dark beside them would be continued into the fill. What the hole holds
    matters here alone, and only by whether it is darker than what was generated; a hole of one value is no lesion.
    """
    own = case.values[case.hole]
    dark = np.ptp(own) > 0 and np.median(source[case.hole] - own) > DARK_LESION * case.slices.scale
    if not dark:
        return np.zeros_like(case.hole)
    near = ring(case.hole, spacing_zyx(case.scan), RIM)
    return near & (case.values < source - DARK_RIM * case.slices.scale)


def uncertainty(case: Case, sd: np.ndarray) -> np.ndarray:
    """The fill's standard deviation on the scan's grid, float32 (z, y, x), from that of the slices."""
    box = box_round(case.hole, 0)
    near = case.within(box)
    result = np.zeros(case.hole.shape, np.float32)
    result[box] = near.hole * sd_to_scan(near.scan, sd, near.slices, near.alignment, near.template)
    return result


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
