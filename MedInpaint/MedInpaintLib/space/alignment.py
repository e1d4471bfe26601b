"""Where a scan lies in model space, which part of it is brain, and how well it fits the template."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError
from ..volumes.image import like, physical_points, same_grid
from ..volumes.mask import bounding_box
from .intensities import SLOPED, Contrast, measure_contrast
from .registration import WORKING_SPACING, Shrunk, register, register_rigidly, shrink_scan, shrink_to_spacing
from .resampling import resample_mask, to_matrix, to_transform
from .template import Template

# Quality below which a user should look at the result. Well aligned T1-weighted scans reach 0.75 to 0.95, other
# contrasts 0.4 to 0.7.
POOR_QUALITY, POOR_OTHER = 0.6, 0.35
EMPTY = 0.02  # of the bright end: voxels with less are no tissue in a brain-extracted scan
BORDER = 2  # voxels of 3 mm at the edge of the brain of a whole head, whose contrast is not measured
NO_BRAIN = 0.2  # correlation ratio below which the scan cannot be a brain MRI
ENOUGH = 100  # voxels of 3 mm to compare; with fewer, the contrast is taken to be that of the model
# mm; smaller motion between two scans is taken to be none, because their registration is no better. Scans on one grid
# were mostly registered before: between contrasts of two patients for which this is known, 0.0 to 0.8 mm were found.
STILL, STILL_ON_ONE_GRID = 0.5, 1.0
SAME_HEAD = 0.2  # correlation ratio below which two scans cannot show the same head


@dataclass(frozen=True)
class Alignment:
    """Where a scan lies in model space.

    Attributes:
        transform: affine, from a point of the template to the point of the scan (mm, LPS).
        brain: the brain mask, bool (z, y, x): the template's brain on the scan's grid; in a brain-extracted scan, cut
            to its non-zero voxels.
        quality: correlation of the scan with the template in the known brain, -1 to 1: Pearson's if the contrast is
            straight, else the correlation ratio, the root of what the contrast curve explains.
        extracted: whether the scan shows a brain without the rest of the head.
        contrast: of the scan, its values in the scan's intensities.
        reused: whether transform, quality and contrast are those of an earlier run on this scan.
    """

    transform: sitk.AffineTransform
    brain: np.ndarray
    quality: float
    extracted: bool
    contrast: Contrast = field(default_factory=Contrast)
    reused: bool = False

    @property
    def poor(self) -> bool:
        """Whether a user should check the result before trusting it."""
        return self.quality < (POOR_QUALITY if self.contrast.straight else POOR_OTHER)

    def without_brain(self) -> Alignment:
        """The same, but the brain mask, which has the size of the scan, is left out."""
        return replace(self, brain=np.zeros((0, 0, 0), bool))


def align(scan: sitk.Image, values: np.ndarray, hole: np.ndarray, template: Template) -> Alignment:
    """Register the template to a scan: similarity, then affine, by Mattes mutual information.

    Args:
        scan: gives the geometry.
        values: float32 (z, y, x), the scan's voxels, all finite.
        hole: bool (z, y, x), excluded from the metric.
        template: the model's template.

    Raises InputError if there are too little known tissue or too few slices to register, or if it is no brain MRI.

    Source: Mattes et al., IEEE Trans. Med. Imaging 22(1), 2003.
    """
    shrunk = shrink_scan(scan, values, hole)
    extracted = is_brain_extracted(values, hole)
    try:
        transform = register(template, shrunk, extracted)
        if extracted and not _empty_around_brain(shrunk, template, transform):
            extracted = False  # a cropped head on a background of zeros looked like a brain
            transform = register(template, shrunk, extracted)
    except RuntimeError as error:  # ITK found nothing to compare
        raise InputError(
            "The scan cannot be aligned with the model: check that it shows a brain and the mask marks only the lesion."
        ) from error
    return _assess(scan, values, hole, template, transform, extracted, shrunk)


def align_like(
    first: Alignment, motion: sitk.Transform, scan: sitk.Image, values: np.ndarray, hole: np.ndarray, template: Template
) -> Alignment:
    """The alignment of a further scan of the same head, from that of the first scan and from `find_motion`.

    The other arguments and errors are those of `align`.
    """
    transform = to_transform(to_matrix(motion) @ to_matrix(first.transform))
    extracted = is_brain_extracted(values, hole)
    shrunk = shrink_scan(scan, values, hole)
    extracted = extracted and _empty_around_brain(shrunk, template, transform)
    return _assess(scan, values, hole, template, transform, extracted, shrunk)


def shrink_brain(
    scan: sitk.Image, values: np.ndarray, hole: np.ndarray, brain: np.ndarray
) -> tuple[sitk.Image, np.ndarray]:
    """The first scan for `find_motion`: at the working spacing, and its known brain there, bool (z, y, x).

    Args:
        scan: gives the geometry.
        values: float32 (z, y, x), its voxels.
        hole, brain: bool (z, y, x).
    """
    fixed = shrink_scan(scan, values, hole).image
    return fixed, resample_mask(like(scan, (brain & ~hole).astype(np.uint8)), fixed, sitk.Transform())


def find_motion(
    first: sitk.Image,
    shrunk: tuple[sitk.Image, np.ndarray],
    scan: sitk.Image,
    values: np.ndarray,
    hole: np.ndarray,
) -> tuple[sitk.Euler3DTransform, float]:
    """The rigid transform from a point of the first scan to that of a further scan of the same head (mm, LPS).

    Args:
        first: gives the geometry of the first scan.
        shrunk: the first scan from `shrink_brain`.
        scan: gives the geometry of the further scan.
        values: float32 (z, y, x), its voxels.
        hole: bool (z, y, x), its voxels that say nothing.

    Returns the transform and by how far it moves the brain, mm, on average. Motion below 0.5 mm, or 1 mm
    for scans on one grid, is taken to be none.

    Raises InputError if the scans cannot show the same head.
    """
    fixed, inside = shrunk
    other = shrink_scan(scan, values, hole)
    problem = (
        "The scan cannot be registered to the first one: check that both are brain MRI of the same head, and that it "
        "shows the place of the lesion."
    )
    try:
        motion = register_rigidly(fixed, inside, other)
    except RuntimeError as error:  # ITK found nothing to compare
        raise InputError(problem) from error
    content = sitk.GetArrayFromImage(sitk.Resample(other.image, fixed, motion, sitk.sitkLinear, 0.0))
    known = sitk.Resample(other.known, fixed, motion, sitk.sitkNearestNeighbor, 0)
    there = inside & (sitk.GetArrayFromImage(known) > 0)
    one, two = sitk.GetArrayFromImage(fixed)[there], content[there]
    if len(one) < ENOUGH or measure_contrast(one, two, np.ones(len(one))).explained < SAME_HEAD**2:
        raise InputError(problem)
    points = physical_points(fixed, inside)
    matrix = to_matrix(motion)
    distance = float(np.linalg.norm(points @ (matrix[:3, :3] - np.eye(3)).T + matrix[:3, 3], axis=1).mean())
    still = STILL_ON_ONE_GRID if same_grid(first, scan) else STILL
    return (motion, distance) if distance >= still else (sitk.Euler3DTransform(), 0.0)


def _assess(
    scan: sitk.Image,
    values: np.ndarray,
    hole: np.ndarray,
    template: Template,
    transform: sitk.AffineTransform,
    extracted: bool,
    shrunk: Shrunk,
) -> Alignment:
    """The alignment with this transform. Raises InputError if the scan is no brain MRI."""
    quality, contrast = _compare(shrunk, template, transform, extracted)
    if contrast.explained < NO_BRAIN**2:
        raise InputError(
            "The scan does not look like a brain MRI: its intensities have nothing in common with a brain's. Check "
            "that it is not a CT or a phantom, and that the mask marks only the lesion."
        )
    contrast = replace(contrast, values=contrast.values * shrunk.bright)
    brain = brain_mask(scan, values, hole, template, transform, extracted)
    return Alignment(transform, brain, quality, extracted, contrast)


def brain_mask(
    scan: sitk.Image,
    values: np.ndarray,
    hole: np.ndarray,
    template: Template,
    transform: sitk.AffineTransform,
    extracted: bool,
) -> np.ndarray:
    """The brain mask of an aligned scan, bool (z, y, x). Arguments as in `align` and `Alignment`."""
    brain = resample_mask(template.brain, scan, transform.GetInverse())
    if extracted:
        brain &= fill_cavities((values != 0) | hole)
    return brain


def fill_cavities(mask: np.ndarray) -> np.ndarray:
    """A mask (z, y, x) and what it encloses: scipy's binary_fill_holes, in a third of the time."""
    if not mask.any():
        return mask
    box = bounding_box(mask, 0)
    labels, count = ndimage.label(~mask[box])
    faces = [np.take(labels, side, axis).ravel() for axis in range(3) for side in (0, -1)]
    inside = np.ones(count + 1, bool)  # label 0 is the mask itself
    inside[np.setdiff1d(np.concatenate(faces), 0)] = False
    filled = mask.copy()
    filled[box] = inside[labels]
    return filled


def is_brain_extracted(values: np.ndarray, hole: np.ndarray) -> bool:
    """Whether over 30 % of the volume and over 70 % of its faces are exactly zero. The hole does not count."""
    empty = (values == 0) & ~hole
    faces = np.concatenate([np.take(empty, side, axis).ravel() for axis in range(3) for side in (0, -1)])
    return bool(empty.mean() > 0.3 and faces.mean() > 0.7)


def _compare(shrunk: Shrunk, template: Template, transform: sitk.Transform, extracted: bool) -> tuple[float, Contrast]:
    """The quality of an alignment, and the contrast of the scan in units of its bright end."""
    average, scan, inside, brain = _on_template(shrunk.image, shrunk.known, template, transform)
    chosen = (brain > 0) & (inside > 0)
    if chosen.sum() < ENOUGH or scan[chosen].std() == 0:
        return 0.0, Contrast()
    pearson = float(np.corrcoef(average[chosen], scan[chosen])[0, 1])
    if extracted:
        chosen &= scan > EMPTY
    else:  # bright skull and scalp beside the brain would look like a contrast, in a CT, too
        chosen &= ndimage.binary_erosion(brain > 0, iterations=BORDER)
    if chosen.sum() < ENOUGH:
        return pearson, Contrast()
    slopes = np.gradient(average, WORKING_SPACING)
    plain = 1 / (1 + sum(slope**2 for slope in slopes) / SLOPED**2)
    contrast = measure_contrast(average[chosen], scan[chosen], plain[chosen])
    return pearson if contrast.straight else contrast.explained**0.5, contrast


def _empty_around_brain(shrunk: Shrunk, template: Template, transform: sitk.Transform) -> bool:
    """Whether less than a quarter of the shell from 9 to 18 mm outside the brain has signal."""
    everywhere = sitk.Cast(shrunk.image * 0 + 1, sitk.sitkUInt8)
    _, scan, inside, brain = _on_template(shrunk.image, everywhere, template, transform)
    distance = ndimage.distance_transform_edt(brain == 0, sampling=WORKING_SPACING)
    shell = (distance > 9) & (distance < 18) & (inside > 0)
    return not shell.any() or float((scan[shell] > 0.05).mean()) < 0.25


def _on_template(
    scan: sitk.Image, known: sitk.Image, template: Template, transform: sitk.Transform
) -> list[np.ndarray]:
    """Template, scan, known voxels and brain, all (z, h, w) on the template's grid at 3 mm."""
    average = shrink_to_spacing(template.image, WORKING_SPACING)
    moved = sitk.Resample(scan, average, transform, sitk.sitkLinear, 0.0)
    inside = sitk.Resample(known, average, transform, sitk.sitkNearestNeighbor, 0)
    brain = sitk.Resample(template.brain, average, sitk.Transform(), sitk.sitkNearestNeighbor)
    return [sitk.GetArrayFromImage(image) for image in (average, moved, inside, brain)]
