"""Fill the hole of a case and measure the result."""

from __future__ import annotations

import time

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...report.measures import brain_range, psnr
from ...space.case import Case
from ...volumes.image import scan_values, spacing_zyx, with_voxels
from ..fills.baselines import Fill
from ..holes.cases import Hole
from ..holes.subjects import Subject
from .brats import brats_metrics
from .memory import PeakMemory
from .quality import measure
from .row import NAN, Row


def measure_fill(
    subject: Subject, hole: Hole, case: Case, name: str, fill: Fill, preparation: float, brats: bool = False
) -> tuple[Row, NDArray[np.number]]:
    """Fill the hole, write the result into the scan as the product does, and measure it on the scan's grid.

    Args:
        subject: the scan that is the truth.
        hole: the hole in it.
        case: the same scan with the lesion in it.
        name: of the fill.
        fill: the method.
        preparation: seconds in which the case was prepared.
        brats: also take the measurements of the BraTS challenge.

    Returns the row and the new voxels of the hole, rounded to the scan's type. If the fill gives no finite values, the
    measurements are NaN and the voxels those of the case.
    """
    with PeakMemory() as memory:
        started = time.perf_counter()
        values = fill(case)
        seconds = time.perf_counter() - started
    failed = not np.isfinite(values).all()  # a peer that ended without a result
    filled = with_voxels(case.scan, case.values[case.hole] if failed else values, case.hole)
    before, after = (sitk.GetArrayFromImage(image) for image in (case.scan, filled))
    spacing = spacing_zyx(subject.scan)
    truth, result = (scan_values(image, hole.voxels) for image in (subject.scan, filled))
    everywhere = np.ones_like(hole.voxels)
    slice_psnr = psnr(truth, result, everywhere, brain_range(truth, subject.brain)) if len(truth) == 1 else NAN
    measured = measure(truth, result, hole.voxels, subject.brain, spacing)
    row = Row(
        group=subject.group,
        scan=subject.name,
        kind=hole.kind,
        index=hole.index,
        shape=hole.shape,
        fill=name,
        hole_ml=float(np.count_nonzero(hole.voxels) * spacing.prod() / 1000),
        quality=case.alignment.quality,
        **{key: NAN if failed else value for key, value in measured.items()},
        slice_psnr=NAN if failed else slice_psnr,
        preparation=preparation,
        seconds=seconds,
        memory=memory.megabytes,
        changed_outside=np.count_nonzero((before != after)[~hole.voxels]),
        same_geometry=int(_geometry(filled) == _geometry(subject.scan)),
        same_type=int(filled.GetPixelID() == subject.scan.GetPixelID()),
        **(brats_metrics(truth, result, hole.voxels) if brats else {}),
    )
    return row, after[hole.voxels]


def _geometry(image: sitk.Image) -> tuple:
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()
