"""Small pictures of a fill: planes through a lesion, outlines, uncertainty, and the contrast of the scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ...pipeline import Result

# The directions of a picture's columns and rows in LPS, so that the patient's left is on the right and up is up.
PLANES = {"axial": ((1, 0, 0), (0, 1, 0)), "coronal": ((1, 0, 0), (0, 0, -1)), "sagittal": ((0, 1, 0), (0, 0, -1))}
CLOSE, WHOLE, SMALL = (80.0, 0.5), (230.0, 1.0), (80.0, 1.0)  # mm along a side, mm of a pixel
OUTLINE, TEMPLATE = (255, 176, 0), (70, 190, 255)
LEVELS = 0.15, 0.65  # share of white at which the generated slice is outlined: the brain, and its white matter
MOST_POINTS = 20_000  # of the chart


def planes(image: sitk.Image, point: Sequence[float], view: tuple[float, float], order: int = 1) -> list[np.ndarray]:
    """The axial, coronal and sagittal plane through a point, float32 (rows, columns) each.

    Args:
        image: a volume.
        point: (x, y, z) in LPS, mm: the centre of the planes.
        view: the side of the square and the size of a pixel, mm.
        order: 1 interpolates linearly, 0 takes the nearest voxel.
    """
    return [_plane(image, point, name, view, order) for name in PLANES]


def window(image: sitk.Image, hole: np.ndarray) -> tuple[float, float]:
    """The intensities that are shown black and white, from the voxels outside the hole."""
    values = sitk.GetArrayViewFromImage(image)[~hole]
    known = values[np.isfinite(values) & (values != 0)].astype(np.float32)
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, (1, 99.7))
    low = min(low, 0.3 * high) if low > 0 else low
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def grey(pictures: Sequence[np.ndarray], shown: tuple[float, float]) -> bytes:
    """A PNG of pictures beside each other."""
    low, high = shown
    strip = np.clip((np.hstack(pictures) - low) / (high - low), 0, 1)
    return _png(np.nan_to_num(strip * 255).astype(np.uint8))


def outline(masks: Sequence[np.ndarray], colour: tuple[int, int, int] = OUTLINE) -> bytes:
    """A transparent PNG with the borders of masks (values of 0.5 and more) beside each other."""
    edges = np.hstack([_edge(mask >= 0.5) for mask in masks])
    return _png(np.dstack([np.broadcast_to(np.uint8(c), edges.shape) for c in colour] + [edges * np.uint8(255)]))


def template_outline(generated: np.ndarray, shown: tuple[float, float]) -> bytes:
    """A transparent PNG with the borders of the generated brain and of its bright tissue: it shows the alignment."""
    edges = np.any([_edge(generated > level * shown[1]) for level in LEVELS], axis=0)
    return _png(np.dstack([np.broadcast_to(np.uint8(c), edges.shape) for c in TEMPLATE] + [edges * np.uint8(255)]))


def heat(pictures: Sequence[np.ndarray], masks: Sequence[np.ndarray], highest: float) -> bytes:
    """A transparent PNG of the uncertainty within the lesion, from black (0) over red to yellow (highest)."""
    from matplotlib import colormaps

    strip, mask = np.hstack(pictures), np.hstack(masks) >= 0.5
    colours = colormaps["inferno"](np.clip(strip / max(highest, 1e-9), 0, 1), bytes=True)
    colours[..., 3] = np.where(mask, 255, 0)
    return _png(colours)


def chart(image: sitk.Image, hole: np.ndarray, generated: sitk.Image, contrast: Mapping) -> bytes:
    """A PNG of the contrast. Left: intensities of the scan against those of the generated slices, in the known brain
    around the lesions. Right: the contrast curve, see `report.run.run_report`.
    """
    from matplotlib.figure import Figure

    scan, model = (sitk.GetArrayViewFromImage(volume) for volume in (image, generated))
    known = np.flatnonzero((model > 0) & ~hole & np.isfinite(scan))
    known = known[:: max(1, known.size // MOST_POINTS)]
    x, y = model.ravel()[known], scan.ravel()[known]
    figure = Figure(figsize=(6.6, 3.1), layout="constrained")
    points, curve = figure.subplots(1, 2)
    points.set(xlabel="generated", ylabel="scan", title="agreement")
    if known.size:
        limits = 0, float(np.percentile(np.concatenate([x, y]), 99.8)) or 1.0
        points.hexbin(x, y, gridsize=45, extent=(*limits, *limits), bins="log", cmap="Blues")
        points.plot(limits, limits, color="#d97706", linewidth=1)
        points.set(xlim=limits, ylim=limits)
    heights = [np.nan if height is None else height for height in contrast["curve"]]
    curve.plot(contrast["levels"], heights, color="#d97706", marker=".")
    curve.set(xlabel="model (T1)", title=f"contrast curve: looks like {contrast['name']}")
    for axes in (points, curve):
        axes.tick_params(labelsize=7)
        axes.title.set_fontsize(9)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def thumbnail(image: sitk.Image, hole: np.ndarray, result: Result) -> bytes:
    """A PNG of the largest lesion, before and after."""
    centre = largest_lesion(image, result.report)
    shown = window(image, hole)
    return grey([_plane(volume, centre, "axial", SMALL) for volume in (image, result.image)], shown)


def largest_lesion(image: sitk.Image, report: dict) -> Sequence[float]:
    """The position of the largest lesion, LPS in mm; the middle of the scan if the report has no lesions."""
    if report["lesions"]:
        return report["lesions"][0]["position_mm"]
    return image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])


def _plane(image: sitk.Image, point: Sequence[float], name: str, view: tuple[float, float], order: int = 1):
    columns, rows = map(np.array, PLANES[name])
    side, pixel = view
    count = round(side / pixel)
    grid = sitk.Image(count, count, 1, sitk.sitkFloat32)
    grid.SetSpacing((pixel, pixel, pixel))
    grid.SetDirection(np.column_stack([columns, rows, np.cross(columns, rows)]).ravel().astype(float).tolist())
    grid.SetOrigin((np.array(point) - (columns + rows) * pixel * (count - 1) / 2).tolist())
    how = sitk.sitkLinear if order else sitk.sitkNearestNeighbor
    return sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), how, 0, sitk.sitkFloat32))[0]


def _edge(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_dilation(mask) & ~mask


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    content = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG", optimize=True)
    return content.getvalue()
