"""Fills from image processing libraries. They fill one axial slice at a time and have no knowledge of brains."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...errors import InputError
from ...space.case import Case
from ...volumes.mask import bounding_box

MARGIN = 10  # pixels around the hole to which a slice is cropped; both fills use only a few of them
TELEA_RADIUS = 3  # pixels


def biharmonic(case: Case) -> NDArray[np.floating]:
    """The fill with the smoothest curvature (scikit-image). It also continues the slopes around the hole."""
    from skimage.restoration import inpaint_biharmonic

    return _slice_by_slice(case, inpaint_biharmonic)


def telea(case: Case) -> NDArray[np.floating]:
    """Fast marching from the border inwards (Telea, J. Graphics Tools 2004; OpenCV), on 8-bit slices."""
    import cv2

    def fill(image: NDArray[np.floating], hole: NDArray[np.bool_]) -> NDArray[np.floating]:
        low, high = image[~hole].min(), image[~hole].max()
        step = (high - low) / 255 or 1.0
        levels = np.clip(np.rint((image - low) / step), 0, 255).astype(np.uint8)
        return low + step * cv2.inpaint(levels, hole.astype(np.uint8), TELEA_RADIUS, cv2.INPAINT_TELEA)

    return _slice_by_slice(case, fill)


def check_libraries() -> None:
    """Raise InputError if a library of these fills is not installed."""
    for module, package in (("skimage", "scikit-image"), ("cv2", "opencv-python-headless")):
        try:
            import_module(module)
        except ImportError as error:
            raise InputError(f"The experiment needs {package}: run `pip install {package}`.") from error


def axial_axis(image: sitk.Image) -> int:
    """The axis of the array (z, y, x) that is closest to inferior-superior."""
    superior = np.reshape(image.GetDirection(), (3, 3))[2]
    return 2 - int(np.abs(superior).argmax())


def _slice_by_slice(case: Case, fill: Callable[[NDArray, NDArray], NDArray]) -> NDArray[np.floating]:
    """The hole's values (n,) by a function that fills one slice: image (h, w), hole (h, w) -> image (h, w)."""
    filled = case.values.astype(np.float64)
    planes, holes = (np.moveaxis(array, axial_axis(case.scan), 0) for array in (filled, case.hole))
    for plane in np.flatnonzero(holes.any(axis=(1, 2))):
        box = bounding_box(holes[plane], MARGIN)
        hole = holes[plane][box]
        planes[plane][box][hole] = fill(planes[plane][box], hole)[hole]
    return filled[case.hole]
