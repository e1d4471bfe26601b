"""The picture of one run: before, the mask, what was generated, and after."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError

PANEL = 3.2  # inches: a panel's width
GAP, CAPTION = 0.08, 0.36  # inches
DOTS = 150  # an inch
CLOSE_UP = 15.0  # mm of surroundings shown about the hole
BACKGROUND, TEXT, OUTLINE = "#101214", "#d5d9dd", "#ffb000"


def check_matplotlib() -> None:
    """Raise InputError if the library that draws is not installed."""
    if find_spec("matplotlib") is None:
        raise InputError("A figure needs matplotlib: run `pip install matplotlib`, or leave out --figure.")


def draw_figure(path: Path, scan: sitk.Image, hole: np.ndarray, generated: sitk.Image, filled: sitk.Image) -> None:
    """Draw the axial slice through the largest lesion, and below it a close-up, as PNG.

    The slice is one of the scan's own, along the axis nearest to superior-inferior, shown as radiologists do: the
    patient's front is up, their left on the right.

    Args:
        path: of the PNG.
        scan: the input.
        hole: bool (z, y, x) on its grid.
        generated: G(z) on that grid.
        filled: the result.
    """
    from matplotlib.figure import Figure

    mask = sitk.GetImageFromArray(hole.astype(np.uint8))
    mask.CopyInformation(scan)
    mask = _axial(mask)
    holes = sitk.GetArrayFromImage(mask) > 0
    level, lesion = _largest_section(holes)
    hole = holes[level]
    before, made, after = (
        np.nan_to_num(sitk.GetArrayFromImage(_axial(image))[level].astype(np.float32))
        for image in (scan, generated, filled)
    )
    low, high = _window(before, hole)
    width, height = mask.GetSpacing()[:2]
    head = _box((before > low + 0.1 * (high - low)) | hole, (width, height), margin=4)
    near = _box(lesion, (width, height), margin=CLOSE_UP, square=True)

    views = [_scaled_height(view) for view in (head, near)]
    size = (4 * PANEL + 5 * GAP, sum(views) + 2 * GAP + CAPTION)
    figure = Figure(figsize=size, facecolor=BACKGROUND)
    for row, view in enumerate((head, near)):
        bottom = GAP if row else 2 * GAP + views[1]
        for column, picture in enumerate((before, before, made, after)):
            left = GAP + column * (PANEL + GAP)
            place = (left / size[0], bottom / size[1], PANEL / size[0], views[row] / size[1])
            axes = figure.add_axes(place, facecolor="black", xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            rows, columns = picture.shape
            extent = (-0.5 * width, (columns - 0.5) * width, (rows - 0.5) * height, -0.5 * height)
            axes.imshow(
                picture,
                cmap="gray",
                vmin=low,
                vmax=high,
                extent=extent,
                interpolation="bicubic" if row else "antialiased",
            )
            if column == 1:
                x, y = np.arange(columns) * width, np.arange(rows) * height
                axes.contour(x, y, hole.astype(float), levels=[0.5], colors=OUTLINE, linewidths=1.0 + 0.6 * row)
            axes.set_xlim(view[0], view[1])
            axes.set_ylim(view[3], view[2])
    for column, caption in enumerate(("before", "what is filled", "generated", "after")):
        centre = (GAP + column * (PANEL + GAP) + PANEL / 2) / size[0]
        figure.text(centre, 1 - CAPTION / 2 / size[1], caption, color=TEXT, fontsize=13, ha="center", va="center")
    figure.savefig(path, format="png", dpi=DOTS, facecolor=BACKGROUND)


def _axial(image: sitk.Image) -> sitk.Image:
    """The same voxels, axes flipped and swapped so that arrays run along superior, posterior, left."""
    return sitk.DICOMOrient(image, "LPS")


def _largest_section(holes: np.ndarray) -> tuple[int, np.ndarray]:
    """The slice in which the largest lesion is largest, and that lesion there, bool (y, x)."""
    numbers, _ = ndimage.label(holes, np.ones((3, 3, 3)))
    largest = numbers == 1 + np.bincount(numbers.ravel())[1:].argmax()
    level = int(largest.sum(axis=(1, 2)).argmax())
    return level, largest[level]


def _window(picture: np.ndarray, hole: np.ndarray) -> tuple[float, float]:
    """The intensities shown black and white: tissue's, whatever the hole holds."""
    known = picture[~hole]
    low, high = np.percentile(known, 1), np.percentile(known, 99.7)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def _box(mask: np.ndarray, spacing: tuple[float, float], margin: float, square: bool = False) -> list[float]:
    """Left, right, top, bottom in mm of the mask's bounding box with a margin."""
    spans = []
    for index, step in zip(np.nonzero(mask)[::-1], spacing, strict=True):
        spans.append([index.min() * step - margin, index.max() * step + margin])
    if square:
        side = max(b - a for a, b in spans)
        spans = [[(a + b - side) / 2, (a + b + side) / 2] for a, b in spans]
    return spans[0] + spans[1]


def _scaled_height(view: list[float]) -> float:
    """Inches, for a panel of the standard width."""
    left, right, top, bottom = view
    return PANEL * (bottom - top) / (right - left)
