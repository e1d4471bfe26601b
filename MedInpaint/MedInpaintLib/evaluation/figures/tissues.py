"""Pictures of tissue classes: the versions of a scan, and the classes below them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ...volumes.image import scan_values
from ...volumes.write import replacing
from ..measures.tissue import Tissue
from .views import View, pixel_sides, show, upright

PANEL, TITLE = 2.3, 0.25  # inches: side of a picture, line above it
DOTS = 90  # per inch
CLASS_COLOURS = ("black", "#2f6db5", "#8a8f94", "#f4f1e6")  # outside, CSF, GM, WM
OUTLINE = "#ffb000"
WHITE = 99.0  # percentile of the brain's intensities that is shown white


def draw_tissues(
    folder: Path,
    name: str,
    lesions: NDArray[np.bool_],
    images: Mapping[str, sitk.Image],
    tissues: Mapping[str, Tissue],
) -> Path:
    """Draw a close-up of the axial slice with most of the largest lesion: each version, and its tissue classes below.

    Args:
        folder: for the PNG file.
        name: of the case.
        lesions: bool (z, y, x) on the grid of the images; their outline is in every picture.
        images: the versions by their names.
        tissues: the classes of the versions.

    Returns the path of the file.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    scan = next(iter(images.values()))
    pieces, _ = ndimage.label(lesions, np.ones((3, 3, 3)))
    largest = upright(scan, (pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()).astype(np.uint8))
    plane = int(largest.sum(axis=(1, 2)).argmax())
    values = scan_values(scan, lesions)
    brain = next(iter(tissues.values())).labels > 0
    sides = pixel_sides(scan)
    white = float(np.percentile(values[brain], WHITE))
    view = View(upright(scan, values)[plane], largest[plane].astype(np.int32) - 1, sides, white)
    window = view.close_up()
    outline = upright(scan, lesions.astype(np.uint8))[plane][window]

    figure = Figure(figsize=(PANEL * len(images), 2 * PANEL + 2 * TITLE), layout="constrained")
    figure.suptitle(name, fontsize=9)
    places = figure.subplots(2, len(images), squeeze=False)
    colours = ListedColormap(CLASS_COLOURS)
    for column, (version, image) in enumerate(images.items()):
        top, below = places[:, column]
        top.set_title(version, fontsize=8)
        show(top, upright(scan, scan_values(image, lesions))[plane][window], view)
        labels = upright(scan, tissues[version].labels)[plane][window]
        below.imshow(labels, cmap=colours, vmin=0, vmax=3, interpolation="nearest", aspect=sides[0] / sides[1])
        for axes in (top, below):
            axes.set_axis_off()
            axes.contour(outline, levels=[0.5], colors=OUTLINE, linewidths=0.8)
    path = folder / f"downstream_{name}.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS)
    return path
