"""Six synthetic brains of 4 mm voxels that share their anatomy and differ smoothly, for the tests of the evaluation."""

from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import SimpleITK as sitk
from MedInpaintLib.space.template import Template
from scipy import ndimage

SHAPE, SPACING = (36, 44, 36), 4.0


def image_of(array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([SPACING] * 3)
    image.SetOrigin([-SPACING * (n - 1) / 2 for n in array.shape[::-1]])
    return image


@lru_cache
def six_brains():
    """Five to train on and one to tune on, float32 (z, y, x) in model intensities, and their template."""
    rng = np.random.default_rng(0)
    centred = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    brain = (centred**2).sum(axis=0) < 0.64

    def smooth(sigma):
        field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), sigma)
        return field / field.std()

    anatomy = 0.6 + 0.15 * smooth(2)
    brains = np.stack([np.clip(anatomy + 0.05 * smooth(3), 0.1, 1.2) * brain for _ in range(6)])
    template = Template(image_of(brains.mean(axis=0).astype(np.float32)), image_of(brain.astype(np.uint8)))
    *training, tuning = brains.astype(np.float32)
    return SimpleNamespace(training=np.stack(training), tuning=tuning, template=template)


def tuning_scan(folder):
    """The tuning brain as an integer scan, turned and shifted; its file."""
    pose = sitk.Euler3DTransform((0, 0, 0), 0.1, 0.03, -0.05, (6, -5, 4))
    scan = sitk.Resample(image_of(six_brains().tuning), pose, sitk.sitkLinear) * 1000
    folder.mkdir()
    path = folder / "sub-5_T1w.nii.gz"
    sitk.WriteImage(sitk.Cast(scan, sitk.sitkInt16), str(path))
    return path
