"""The view of a case: the axial slice with most of the hole. Pictures of all fills are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ...report.measures import brain_range
from ...volumes.image import like, scan_values
from ...volumes.write import replacing
from ..holes.cases import Hole
from ..holes.subjects import Subject

MARGIN = 15.0  # mm around the hole in a close-up
COLUMNS = 8  # pictures beside each other
TRUTH = "truth"  # stands for a fill in the name of a file: the voxels of the healthy scan


@dataclass(frozen=True)
class View:
    """An axial slice in radiological orientation: the front of the head is up, its right side is on the left.

    Attributes:
        truth: float32 (h, w), scan intensities.
        voxel: int32 (h, w), index of each hole pixel in array[hole]; -1 outside the hole.
        sides: height and width of a pixel, mm.
        white: intensity that is shown white.
    """

    truth: NDArray[np.float32]
    voxel: NDArray[np.int32]
    sides: NDArray[np.float64]
    white: float

    @property
    def hole(self) -> NDArray[np.bool_]:
        """bool (h, w)."""
        return self.voxel >= 0

    def masked(self) -> NDArray[np.float32]:
        """The slice with a white hole."""
        return np.where(self.hole, np.float32(self.white), self.truth)

    def filled(self, voxels: NDArray[np.number]) -> NDArray[np.float32]:
        """The slice with a fill, given as the new values of array[hole], (n,)."""
        picture = self.truth.copy()
        picture[self.hole] = voxels[self.voxel[self.hole]]
        return picture

    def brain(self) -> tuple[slice, slice]:
        """The window (rows, columns) around everything that is not background."""
        head = (self.truth > 0.05 * self.white) | self.hole
        rows, columns = (np.flatnonzero(head.any(axis=axis)) for axis in (1, 0))
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def close_up(self) -> tuple[slice, slice]:
        """The window (rows, columns) around the largest piece of the hole: square in mm, clipped to the slice."""
        pieces, _ = ndimage.label(self.hole)
        largest = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
        extents = [np.flatnonzero(largest.any(axis=axis)) for axis in (1, 0)]
        half = max(len(extent) * side for extent, side in zip(extents, self.sides, strict=True)) / 2 + MARGIN
        rows, columns = (
            slice(max(0, round(extent.mean() - half / side)), min(n, round(extent.mean() + half / side) + 1))
            for extent, side, n in zip(extents, self.sides, self.hole.shape, strict=True)
        )
        return rows, columns

    def save(self, path: Path) -> None:
        """Write the view (.npz)."""
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **asdict(self))


def view_of(subject: Subject, hole: Hole) -> View:
    """The axial slice with most of the hole."""
    numbers = np.full(hole.voxels.shape, -1, np.int32)
    numbers[hole.voxels] = np.arange(np.count_nonzero(hole.voxels))
    voxel = upright(subject.scan, numbers)
    plane = int((voxel >= 0).sum(axis=(1, 2)).argmax())
    values = scan_values(subject.scan, hole.voxels)
    truth = upright(subject.scan, values)[plane]
    return View(truth, voxel[plane], pixel_sides(subject.scan), brain_range(values, subject.brain))


def upright(scan: sitk.Image, array: NDArray) -> NDArray:
    """An array on the scan's grid (z, y, x) with its axes reordered and flipped to superior, posterior, left."""
    return sitk.GetArrayFromImage(sitk.DICOMOrient(like(scan, array), "LPS"))


def pixel_sides(scan: sitk.Image) -> NDArray[np.float64]:
    """Height and width (mm) of a pixel in the axial slices of `upright`."""
    return np.array(sitk.DICOMOrient(scan, "LPS").GetSpacing()[1::-1])


def read_view(path: Path) -> View:
    """Read a view that was saved."""
    with np.load(path, allow_pickle=False) as file:
        return View(file["truth"], file["voxel"], file["sides"], float(file["white"]))


def voxels_path(folder: Path, case: str, fill: str) -> Path:
    """The file with the voxels of a fill, or with those of the truth."""
    return folder / "fills" / f"{case}_{fill}.npy"


def view_path(folder: Path, case: str) -> Path:
    """The file with the view of a case."""
    return folder / "views" / f"{case}.npz"


def draw_case(path: Path, view: View, title: str, fills: Mapping[str, NDArray[np.number]]) -> None:
    """Draw close-ups of the truth, the hole and the fills, given as the voxels of the hole by their captions."""
    from matplotlib.figure import Figure

    pictures = {"truth": view.truth, "hole": view.masked()}
    pictures |= {caption: view.filled(voxels) for caption, voxels in fills.items()}
    columns = min(len(pictures), COLUMNS)
    rows = ceil(len(pictures) / columns)
    figure = Figure(figsize=(2.4 * columns, 2.5 * rows + 0.3), layout="constrained")
    figure.suptitle(title)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, (caption, picture) in zip(places, pictures.items(), strict=False):
        axes.set_title(caption, fontsize=9)
        show(axes, picture[view.close_up()], view)
    figure.savefig(path, dpi=110)


def show(axes, picture: NDArray[np.floating], view: View) -> None:
    """Show a picture of this view, or a part of it, on matplotlib axes."""
    axes.imshow(picture, cmap="gray", vmin=0, vmax=view.white, aspect=view.sides[0] / view.sides[1])
