"""A picture of a model's samples: slices decoded from random draws of the prior."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ..models.folder import SAMPLES
from ..models.latent_model import LatentModel

BRAINS = 4  # rows
HEIGHTS = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75)  # columns
WHITE = 1.0  # model intensity


def save_samples(network: LatentModel, folder: Path) -> None:
    """Write the picture into the model's folder: one row for each z from N(0, 1), with slices from low to high."""
    device = network.brains.mean.device
    z = torch.randn((BRAINS, network.latent), generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        rows = [network.generate(one.expand(len(HEIGHTS), -1), torch.tensor(HEIGHTS, device=device)) for one in z]
    slices = torch.stack(rows)[:, :, 0].cpu().numpy()  # the first row of pixels is the front of the head
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in slices], axis=0)
    grey = (255 * np.clip(grid / WHITE, 0, 1)).round().astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(grey), str(folder / SAMPLES), useCompression=True)
