"""The measurements of the BraTS local inpainting challenge, computed by the challenge's package if it is installed.

Source: Kofler et al., The Brain Tumor Segmentation Challenge 2023: Local Synthesis of Healthy Brain Tissue via
Inpainting, arXiv 2305.08992. `inpainting` on PyPI is licensed AGPL-3.0, so nothing here depends on it.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError


def check_brats() -> None:
    """Raise InputError if the challenge's package cannot be imported."""
    try:
        import inpainting.challenge_metrics_2023  # noqa: F401
    except ImportError as error:
        raise InputError("--brats-metrics needs the challenge's package: run `pip install inpainting`.") from error


def brats_metrics(truth: NDArray[np.floating], fill: NDArray[np.floating], hole: NDArray[np.bool_]) -> dict[str, float]:
    """brats_mse, brats_psnr (dB) and brats_ssim, as the challenge defines them, of arrays (z, y, x)."""
    import torch
    from inpainting.challenge_metrics_2023 import generate_metrics

    prediction, target, voided = (
        torch.as_tensor(image, dtype=torch.float32)[None] for image in (fill, truth, np.where(hole, 0, truth))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the package warns of how it creates its tensors
        values = generate_metrics(
            prediction=prediction, target=target, normalization_tensor=voided, mask=torch.as_tensor(hole)[None]
        )
    return {f"brats_{name}": float(values[name]) for name in ("mse", "psnr", "ssim")}
