"""What a case looks like: the axial slice with most of the hole, of which any fill's picture can be made later."""

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
from ..holes.cases import Hole, Subject

MARGIN = 15.0  # mm of surroundings in a close-up
ACROSS = 8  # pictures side by side


@dataclass(frozen=True)
class View:
    """A slice as radiologists see it: the front of the head at the top, its right at the left.

    Attributes:
        truth: float32 (h, w), scan intensities.
        voxel: int32 (h, w), where in array[hole] each pixel of the hole is; -1 outside the hole.
        sides: of a pixel, mm (h, w).
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
        """The slice with a fill, given as the new values of array[hole]."""
        picture = self.truth.copy()
        picture[self.hole] = voxels[self.voxel[self.hole]]
        return picture

    def brain(self) -> tuple[slice, slice]:
        """The window about all that is not background."""
        seen = (self.truth > 0.05 * self.white) | self.hole
        rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def close_up(self) -> tuple[slice, slice]:
        """The window about the hole, or the largest of its pieces here; square in mm unless the slice ends."""
        pieces, _ = ndimage.label(self.hole)
        largest = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
        reach = [np.flatnonzero(largest.any(axis=axis)) for axis in (1, 0)]
        half = max(len(where) * side for where, side in zip(reach, self.sides, strict=True)) / 2 + MARGIN
        rows, columns = (
            slice(max(0, round(where.mean() - half / side)), min(n, round(where.mean() + half / side) + 1))
            for where, side, n in zip(reach, self.sides, self.hole.shape, strict=True)
        )
        return rows, columns

    def save(self, path: Path) -> None:
        """Write it (.npz)."""
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **asdict(self))


def view_of(subject: Subject, hole: Hole) -> View:
    """The axial slice with most of the hole."""
    numbers = np.full(hole.voxels.shape, -1, np.int32)
    numbers[hole.voxels] = np.arange(np.count_nonzero(hole.voxels))
    upright = sitk.DICOMOrient(like(subject.scan, numbers), "LPS")
    voxel = sitk.GetArrayFromImage(upright)
    plane = int((voxel >= 0).sum(axis=(1, 2)).argmax())
    values = scan_values(subject.scan, hole.voxels)
    truth = sitk.GetArrayFromImage(sitk.DICOMOrient(like(subject.scan, values), "LPS"))[plane]
    return View(truth, voxel[plane], np.array(upright.GetSpacing()[1::-1]), brain_range(values, subject.brain))


def read_view(path: Path) -> View:
    """A view that was saved."""
    with np.load(path, allow_pickle=False) as file:
        return View(file["truth"], file["voxel"], file["sides"], float(file["white"]))


def voxels_path(folder: Path, case: str, fill: str) -> Path:
    """Where a fill's voxels are."""
    return folder / "fills" / f"{case}_{fill}.npy"


def view_path(folder: Path, case: str) -> Path:
    """Where a case's view is."""
    return folder / "views" / f"{case}.npz"


def draw(path: Path, view: View, title: str, fills: Mapping[str, NDArray[np.number]]) -> None:
    """Close-ups of the truth, the hole and each fill, given by its caption as the hole's voxels."""
    from matplotlib.figure import Figure

    pictures = {"truth": view.truth, "hole": view.masked()}
    pictures |= {caption: view.filled(voxels) for caption, voxels in fills.items()}
    columns = min(len(pictures), ACROSS)
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
    """Draw a picture of this view, or a part of it, on matplotlib axes."""
    axes.imshow(picture, cmap="gray", vmin=0, vmax=view.white, aspect=view.sides[0] / view.sides[1])
