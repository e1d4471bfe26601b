"""Small synthetic volumes and masks for the tests."""

import numpy as np
import SimpleITK as sitk
import torch
from MedInpaintLib.models.linear import Brains

INTEGER_TYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
SCALAR_TYPES = [*INTEGER_TYPES, "float32", "float64"]
SHAPE = (6, 7, 8)  # z, y, x


def rotation(degrees, axis=(1, 2, 3)):
    turn = sitk.VersorTransform(axis, np.deg2rad(degrees))
    return np.reshape(turn.GetMatrix(), (3, 3))


GEOMETRIES = {
    "axis-aligned": np.eye(3),
    "oblique": rotation(25),
    "left-handed": np.diag([1, 1, -1]),
    "oblique and left-handed": rotation(25) @ np.diag([-1, 1, 1]),
}


def volume(array, direction=None, spacing=(0.9, 1.1, 2.5), origin=(-31.25, 12.5, 100.75)):
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.ravel(np.eye(3) if direction is None else direction).tolist())
    return image


def centred(size, spacing, direction=None, centre=(0, 0, 0)):
    """An empty volume of this size (x, y, z) with its centre at this point (mm)."""
    image = volume(np.zeros(size[::-1], np.float32), direction, spacing, (0, 0, 0))
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size])
    image.SetOrigin(np.subtract(centre, middle).tolist())
    return image


def physical_points(image):
    """The position of every voxel (mm), (3, z, y, x)."""
    shape = image.GetSize()[::-1]
    index = np.indices(shape)[::-1].reshape(3, -1)
    matrix = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return (matrix @ index + np.reshape(image.GetOrigin(), (3, 1))).reshape(3, *shape)


def random_array(dtype="float32", shape=SHAPE, seed=0):
    values = np.random.default_rng(seed).integers(0, 100, shape)
    return values.astype(dtype)


def extremes(dtype):
    """A random array that also contains the limits of its type."""
    array = random_array(dtype)
    limits = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    array[0, 0, :2] = limits.min, limits.max
    return array


def bits(array):
    return array.view(f"u{array.dtype.itemsize}")


def box(z, y, x, shape=SHAPE):
    hole = np.zeros(shape, bool)
    hole[z, y, x] = True
    return hole


HOLE = box(slice(2, 4), slice(2, 5), slice(3, 6))


def as_mask(hole, dtype="uint8", **geometry):
    return volume(np.asarray(hole).astype(dtype), **geometry)


def brains_of(heights, brains, size, seed=0):
    """Brains with a random mean, left-right symmetric, and random differences."""
    rng = np.random.default_rng(seed)
    mean = rng.integers(60, 140, (heights, *size), dtype=np.uint8)
    half = size[1] // 2
    mean[..., half:] = mean[..., :half][..., ::-1]
    differences = rng.integers(-9, 10, (heights, brains, *size), dtype=np.int8)
    return Brains(torch.from_numpy(mean), torch.from_numpy(differences))
