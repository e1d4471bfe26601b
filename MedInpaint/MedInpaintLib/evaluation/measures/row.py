"""The measurements of one fill of one case: a row of the experiment's table."""

from __future__ import annotations

from dataclasses import dataclass

NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """One fill of one case.

    Attributes:
        group, scan: as in `Subject`.
        kind, index, shape: as in `Hole`.
        fill: name of the fill.
        hole_ml: volume of the hole.
        quality: of the alignment of the case.
        psnr, ssim, mae, sharpness, noise, seam: as in `quality.measure`.
        slice_psnr: dB over the whole slice of a square; NaN for other holes.
        preparation: seconds of alignment and slicing.
        seconds: of this fill. An ablation of the blending uses the search of the full model and does not count it.
        memory: peak of memory above the memory in use before, MB; NaN if the system does not report it.
        changed_outside: number of voxels outside the hole that differ from the truth.
        same_geometry, same_type: 1 if the result has the geometry and the pixel type of the scan.
        brats_mse, brats_psnr, brats_ssim: as in `brats.brats_metrics`; NaN if not measured.
    """

    group: str
    scan: str
    kind: str
    index: int
    shape: str
    fill: str
    hole_ml: float
    quality: float
    psnr: float
    ssim: float
    mae: float
    sharpness: float
    noise: float
    seam: float
    slice_psnr: float
    preparation: float
    seconds: float
    memory: float
    changed_outside: int
    same_geometry: int
    same_type: int
    brats_mse: float = NAN
    brats_psnr: float = NAN
    brats_ssim: float = NAN

    @property
    def case(self) -> str:
        """The name of the case and of its files."""
        return case_name(self.group, self.scan, self.kind, self.index)


def case_name(group: str, scan: str, kind: str, index: int) -> str:
    """The name of a case and of its files."""
    return f"{group}_{scan}_{kind}_{index}"
