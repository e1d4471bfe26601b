"""The content of a hole: a lesion, dark as in T1-weighted scans or bright as in T2 and FLAIR, stamped into a brain.

A user's hole holds a lesion. An evaluation with an empty hole would leave out every step that looks at the lesion or at
its border.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ...blending.noise import robust_deviation, second_differences
from ...report.measures import brain_range
from ...volumes.image import scan_values, spacing_zyx, with_voxels

DARKNESS = 0.35  # of the brain's 99.5th percentile: between CSF and grey matter, as in black holes of MS
BRIGHTNESS = 0.85  # of the same, in T2 and FLAIR
TEXTURE, TEXTURE_SIGMA = 0.08, 1.5  # share of the lesion's intensity, and mm: its own smooth variation
PARTIAL_VOLUME = 1.0  # mm from the border within which lesion and tissue mix
LEAST_SHARE = 0.25  # of lesion in a voxel at the border


def stamp_lesion(
    scan: sitk.Image,
    brain: NDArray[np.bool_],
    lesion: NDArray[np.bool_],
    rng: np.random.Generator,
    bright: bool = False,
) -> sitk.Image:
    """The scan with a dark lesion, never brighter than the tissue was, or a bright one. Other voxels are bit-identical.

    Args:
        scan: a healthy scan.
        brain: bool (z, y, x).
        lesion: bool (z, y, x), all voxels that the lesion touches.
        rng: random generator of texture and noise.
        bright: stamp a bright lesion, which is never darker than the tissue was.
    """
    values, spacing = scan_values(scan, lesion), spacing_zyx(scan)
    texture = ndimage.gaussian_filter(rng.standard_normal(values.shape), TEXTURE_SIGMA / spacing)[lesion]
    texture /= max(float(texture.std()), 1e-9)
    noise = robust_deviation(second_differences(values)[brain]) * rng.standard_normal(texture.shape)
    level = BRIGHTNESS if bright else DARKNESS
    content = level * brain_range(values, brain) * (1 + TEXTURE * texture) + noise
    depth = ndimage.distance_transform_edt(lesion, sampling=spacing)[lesion] - spacing.min() / 2
    share = np.clip(depth / PARTIAL_VOLUME, LEAST_SHARE, 1)
    tissue = values[lesion]
    content = np.maximum(content, tissue) if bright else np.minimum(content, tissue)
    return with_voxels(scan, (1 - share) * tissue + share * content, lesion)
