"""The picture of a run: the scan before, the hole, the generated slices, and the scan after."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = 3.2  # inches; the width of a panel
GAP, CAPTION = 0.08, 0.36  # inches
CURVE = 2.4  # inches; the width of the plot of the contrast curve with its labels
DOTS = 150  # per inch
CLOSE_UP = 15.0  # mm around the hole
BACKGROUND, TEXT, OUTLINE = "#101214", "#d5d9dd", "#ffb000"


def check_matplotlib() -> None:
    """Raise InputError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise InputError("A figure needs matplotlib: run `pip install matplotlib`, or leave out --figure.")


def draw_figure(
    path: Path,
    scan: sitk.Image,
    hole: np.ndarray,
    generated: sitk.Image,
    filled: sitk.Image,
    contrast: Mapping | None = None,
) -> None:
    """Draw the axial slice through the largest lesion, and below it a close-up, as PNG.

    The slice is not interpolated: it is a slice of the scan along the axis nearest to superior-inferior. It has the
    radiological orientation: the patient's front is up, and their left is on the right.

    Args:
        path: of the PNG file.
        scan: the input.
        hole: bool (z, y, x) on the scan's grid.
        generated: the generated slices on the same grid.
        filled: the result.
        contrast: `contrast` of the report, which is drawn as a small plot beside the close-ups; None: no plot.
    """
    from matplotlib.figure import Figure

    mask = sitk.GetImageFromArray(hole.astype(np.uint8))
    mask.CopyInformation(scan)
    mask = _axial(mask)
    holes = sitk.GetArrayFromImage(mask) > 0
    level, lesion = _largest_section(holes)
    hole = holes[level]
    before, content, after = (
        np.nan_to_num(sitk.GetArrayFromImage(_axial(image))[level].astype(np.float32))
        for image in (scan, generated, filled)
    )
    low, high = _window(before, hole)
    width, height = mask.GetSpacing()[:2]
    whole = _box((before > low + 0.1 * (high - low)) | hole, (width, height), margin=4)
    close_up = _box(lesion, (width, height), margin=CLOSE_UP, square=True)

    heights = [_panel_height(view) for view in (whole, close_up)]
    extra = 0 if contrast is None else CURVE + GAP
    size = (4 * PANEL + 5 * GAP + extra, sum(heights) + 2 * GAP + CAPTION)
    figure = Figure(figsize=size, facecolor=BACKGROUND)
    for row, view in enumerate((whole, close_up)):
        bottom = GAP if row else 2 * GAP + heights[1]
        for column, picture in enumerate((before, before, content, after)):
            left = GAP + column * (PANEL + GAP)
            place = (left / size[0], bottom / size[1], PANEL / size[0], heights[row] / size[1])
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
    if contrast is not None:
        _draw_curve(figure, size, contrast)
    figure.savefig(path, format="png", dpi=DOTS, facecolor=BACKGROUND)


def _draw_curve(figure: Figure, size: tuple[float, float], contrast: Mapping) -> None:
    """The scan's intensity against the model's, at the right end of a figure of this size (inches)."""
    left, bottom, side = size[0] - CURVE + 0.5, 3 * GAP + 0.4, CURVE - 0.65
    place = (left / size[0], bottom / size[1], side / size[0], side / size[1])
    axes = figure.add_axes(place, facecolor=BACKGROUND)
    axes.plot(contrast["levels"], [np.nan if y is None else y for y in contrast["curve"]], color=OUTLINE, marker=".")
    axes.set_xlabel("model intensity (T1)", color=TEXT, fontsize=8)
    axes.set_title(f"contrast: looks like {contrast['name']}", color=TEXT, fontsize=9)
    axes.set_ylabel("scan intensity", color=TEXT, fontsize=8)
    axes.tick_params(colors=TEXT, labelsize=7)
    axes.spines[:].set_color(TEXT)


def _axial(image: sitk.Image) -> sitk.Image:
    """The same voxels with axes flipped and swapped, so that array axes point to superior, posterior and left."""
    return sitk.DICOMOrient(image, "LPS")


def _largest_section(holes: np.ndarray) -> tuple[int, np.ndarray]:
    """The slice with the largest section of the largest lesion, and this section, bool (y, x)."""
    numbers, _ = ndimage.label(holes, np.ones((3, 3, 3)))
    largest = numbers == 1 + np.bincount(numbers.ravel())[1:].argmax()
    level = int(largest.sum(axis=(1, 2)).argmax())
    return level, largest[level]


def _window(picture: np.ndarray, hole: np.ndarray) -> tuple[float, float]:
    """The intensities that are shown black and white; the values in the hole do not count."""
    known = picture[~hole]
    low, high = np.percentile(known, 1), np.percentile(known, 99.7)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def _box(mask: np.ndarray, spacing: tuple[float, float], margin: float, square: bool = False) -> list[float]:
    """The bounding box of the mask with a margin: left, right, top and bottom in mm."""
    spans = []
    for index, step in zip(np.nonzero(mask)[::-1], spacing, strict=True):
        spans.append([index.min() * step - margin, index.max() * step + margin])
    if square:
        side = max(b - a for a, b in spans)
        spans = [[(a + b - side) / 2, (a + b + side) / 2] for a, b in spans]
    return spans[0] + spans[1]


def _panel_height(view: list[float]) -> float:
    """The height in inches of a panel that shows this box."""
    left, right, top, bottom = view
    return PANEL * (bottom - top) / (right - left)
