"""The prediction of a case: search the latents of its slices, krige the residual, carry both to the scan and blend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .blending.blend import blend_into_scan, box_near_hole, deviation_on_scan
from .blending.noise import WHITE_MATTER
from .blending.rim import Rim, find_rim, rim_zone
from .settings import Settings
from .space.case import cut_together
from .space.intensities import gain_between, lesions_are_bright
from .space.resampling import covered_box, resample, resample_mask, to_matrix, to_transform
from .space.slices import Tissue, slices_on_scan, to_scan
from .volumes.image import like, spacing_zyx
from .volumes.mask import ring

if TYPE_CHECKING:
    from .models.latent_model import LatentModel
    from .search.fallback import Report
    from .search.latent import Generated
    from .space.case import Case
    from .space.slices import Slices

FIRST = 0.8  # share of the progress of the first search; a second one follows if the mask is tight
UNSURE = 2.0  # mm beside the hole of another scan; its tissue there may be lesion
AROUND = 8  # voxels; more than the interpolation reaches
LESION = 0.1  # model intensity: what another scan shows with a larger deficit in white matter is a lesion, too
UNKNOWN_RIM = Rim(None, None, 0.0)


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
    zones = [_zone_on_scan(case, each.rim) for case, each in zip(cases, judged, strict=True)]
    second = generate_all(cut_together(cases, zones), FIRST, 1 - FIRST)
    return [replace(new, rim=each.rim) for new, each in zip(second, judged, strict=True)]


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


def blend(
    case: Case, prediction: Prediction, settings: Settings, others: Sequence[tuple[Case, Prediction]] = ()
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Carry the predicted slices to the scan's grid and blend.

    Args:
        case: the scan and its hole.
        prediction: of its slices.
        settings: those of the blending.
        others: further scans that were predicted together with this one. One of the same contrast may show what lies
            in the hole.

    Returns the hole's new values (n,) in the order of `case.values[case.hole]`; float32 (z, y, x), the standard
    deviation of the fill, or None; and the share of the hole, 0 to 1, that other scans show.
    """
    case = replace(case, slices=prediction.stack)
    near = case.crop(box_near_hole(case))
    source = to_scan(near.scan, prediction.slices, near.slices, near.alignment, near.template)
    tissue = prediction.tissue or tissue_on_scan(near, prediction)
    # The other blendings do not use it, so the report must not count it.
    shown = shown_by_others(near, prediction, tissue, others) if settings.blending == "matern" else None
    filled, noise = blend_into_scan(near, source, tissue, settings, prediction.rim.where, shown)
    deviation = None if prediction.deviation is None else deviation_on_scan(case, prediction.deviation, noise)
    return filled, deviation, 0.0 if shown is None else float(np.isfinite(shown[near.hole]).mean())


def shown_by_others(
    case: Case, prediction: Prediction, tissue: Tissue, others: Sequence[tuple[Case, Prediction]]
) -> np.ndarray | None:
    """What other scans of the same contrast show, float32 (z, y, x), in this scan's intensities; NaN elsewhere.

    That is G(z) plus their residual. None if they show nothing of the hole. Arguments are those of `blend`, on the grid
    of `tissue`.
    """
    shown = np.full(case.hole.shape, np.nan, np.float32)
    for other, found in others:
        gain = gain_between(found.search.curve, prediction.search.curve)
        if gain is None:
            continue
        to_other = to_matrix(other.alignment.transform) @ np.linalg.inv(to_matrix(case.alignment.transform))
        motion = to_transform(to_other)
        box = covered_box(case.scan, other.scan, to_transform(np.linalg.inv(to_other)), AROUND)
        unsure = other.hole | ring(other.hole, spacing_zyx(other.scan), UNSURE)
        near = other.crop(box)
        healthy = (near.alignment.brain & ~unsure[box]).astype(np.uint8)
        known = resample_mask(like(near.scan, healthy), case.scan, motion) & tissue.valid
        if not (known & case.hole).any():
            continue
        values = resample(like(near.scan, near.values), case.scan, motion, sitk.sitkBSpline)
        expected = found.search.through_curve(tissue.model_like) * found.stack.scale + found.stack.floor
        residual = (values - expected) * gain * case.slices.scale / found.stack.scale
        deficit = (residual if tissue.bright else -residual) / case.slices.scale
        known &= ~_lesions(known & case.hole, deficit, tissue) & np.isnan(shown)
        shown[known] = (tissue.scan_like + residual)[known]
    return shown if np.isfinite(shown[case.hole]).any() else None


def _lesions(parts: np.ndarray, deficit: np.ndarray, tissue: Tissue) -> np.ndarray:
    """The connected parts that are lesions by their median deficit in white matter, all arrays (z, y, x)."""
    numbers, _ = ndimage.label(parts)
    white = np.where(tissue.model_like > WHITE_MATTER, numbers, 0)
    present = np.setdiff1d(white, 0)
    medians = ndimage.median(deficit, white, present)
    return np.isin(numbers, present[np.asarray(medians) > LESION])


def _zone_on_scan(case: Case, rim: Rim) -> np.ndarray | None:
    """`rim_zone` on the grid of the case's scan; None if the mask is not tight."""
    if rim.where is None:
        return None
    zone, box = np.zeros_like(case.hole), box_near_hole(case)
    zone[box] = rim_zone(case.crop(box), rim.where, rim.width)
    return zone


def tissue_on_scan(case: Case, prediction: Prediction) -> Tissue:
    """G(z) on the grid of the case's scan."""
    own = replace(case.slices, scale=1.0, floor=0.0)
    found = prediction.search
    model_like = to_scan(case.scan, found.tissue, own, case.alignment, case.template)
    scan_like = (found.through_curve(model_like) * case.slices.scale + case.slices.floor).astype(np.float32)
    valid = slices_on_scan(case.scan, case.slices, case.alignment, case.template)
    return Tissue(scan_like, model_like, valid, lesions_are_bright(found.curve))
