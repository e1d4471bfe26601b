"""The slice file comes back as it was saved, and training brains come to a common shape."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib.errors import InputError
from MedInpaintLib.search.deformation import Deformation
from MedInpaintLib.training.slices.data import LEVELS, load, save
from MedInpaintLib.training.slices.shape import to_common_shape

CPU = torch.device("cpu")


def test_a_slice_file_comes_back_as_it_was_saved(data, tmp_path):
    save(data, tmp_path / "slices.npz")
    back = load(tmp_path / "slices.npz")
    for name in ("training", "shapes", "tuning"):
        np.testing.assert_array_equal(getattr(back, name), getattr(data, name))
    for name in ("training_subjects", "tuning_subjects", "source"):
        assert getattr(back, name) == getattr(data, name)
    for ours, theirs in ((data.template.image, back.template.image), (data.template.brain, back.template.brain)):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
        assert ours.GetSpacing() == theirs.GetSpacing()
        assert ours.GetOrigin() == theirs.GetOrigin()
        assert ours.GetPixelID() == theirs.GetPixelID()


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"PK\x03\x04 cut off", None], ids=["empty", "text", "zip", "none"]
)
def test_rubbish_is_no_slice_file(tmp_path, content):
    path = tmp_path / "slices.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="not a slice file"):
        load(path)


def test_another_npz_file_is_no_slice_file(tmp_path):
    np.savez(tmp_path / "other.npz", slices=np.zeros((2, 3, 4, 5), np.uint8))
    with pytest.raises(InputError, match="not a slice file"):
        load(tmp_path / "other.npz")


def test_brains_that_differ_in_shape_alone_become_alike():
    y, x = np.meshgrid(np.arange(48), np.arange(32), indexing="ij")

    def brain(shift, wider):
        radius = np.hypot((y - 24 - shift) / (14 + wider), (x - 15.5) / 10)
        return np.broadcast_to(0.7 / (1 + np.exp(8 * (radius**2 - 1))), (12, 48, 32)).astype(np.float32)

    brains = np.stack([brain(-1.5, 0), brain(1.5, 1), brain(0, -1)])
    before = brains.copy()
    shaped, knots = to_common_shape(brains)
    assert knots.shape == (3, 2, *Deformation(np.arange(12), (48, 32), CPU).knots[1:])
    assert shaped.shape == brains.shape
    assert shaped.dtype == np.float32
    np.testing.assert_array_equal(brains, before)
    assert shaped.var(axis=0).mean() < 0.25 * brains.var(axis=0).mean()
    assert abs(shaped.mean() / brains.mean() - 1) < 0.05


def test_equal_symmetric_brains_do_not_change(data):
    brain = data.tuning.astype(np.float32) / LEVELS
    brains = np.concatenate([brain + brain[..., ::-1]] * 2) / 2
    shift_by_a_pixel = np.abs(np.roll(brains, 1, axis=-1) - brains).mean()
    assert np.abs(to_common_shape(brains)[0] - brains).mean() < 0.1 * shift_by_a_pixel
