"""Biharmonic and Telea fills: closed forms in the slice, along the axial direction of the scan."""

from types import SimpleNamespace

import numpy as np
import pytest
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.fills import slicewise
from MedInpaintLib.evaluation.fills.slicewise import axial_axis, biharmonic, telea
from synthetic import volume

SHAPE = (5, 40, 36)


def case_of(values, hole, direction=None):
    """The case as a fill sees it: nothing in the hole."""
    scan = volume(values, direction)
    return SimpleNamespace(scan=scan, values=np.where(hole, 0, values).astype(np.float32), hole=hole)


@pytest.fixture
def hole():
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 15:22, 12:20] = True
    return mask


@pytest.mark.parametrize("fill", [biharmonic, telea])
def test_a_flat_scan_is_filled_flat(fill, hole):
    assert fill(case_of(np.full(SHAPE, 700.0), hole)) == pytest.approx(np.full(hole.sum(), 700.0))


def test_the_biharmonic_fill_continues_a_slope(hole):
    z, y, x = np.indices(SHAPE)
    slope = 100 + 2.0 * y + 3.0 * x + 50.0 * z
    assert biharmonic(case_of(slope, hole)) == pytest.approx(slope[hole], abs=0.01)


def test_telea_comes_close_to_a_slope_and_is_exact_to_a_grey_level_at_its_rim(hole):
    slope = 100 + 3.0 * np.indices(SHAPE)[2]
    error = np.abs(telea(case_of(slope, hole)) - slope[hole])
    assert error.max() < 12  # half of what the slope climbs across the hole
    assert telea(case_of(np.where(slope > 150, 1000.0, 0.0), hole)).max() <= 1000


@pytest.mark.parametrize("fill", [biharmonic, telea])
def test_slices_know_nothing_of_each_other(fill, hole):
    values = np.random.default_rng(0).uniform(100, 200, SHAPE)
    other = values.copy()
    other[3:] = 500
    first, second = (fill(case_of(v, hole)).reshape(3, -1) for v in (values, other))
    assert np.array_equal(first[:2], second[:2])
    assert not np.array_equal(first[2], second[2])


@pytest.mark.parametrize("fill", [biharmonic, telea])
def test_slices_are_axial_however_the_scan_is_stored(fill, hole):
    values = np.random.default_rng(0).uniform(100, 200, SHAPE)
    expected = np.zeros(SHAPE)
    expected[hole] = fill(case_of(values, hole))
    coronal = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]])  # the array's axes are posterior, superior, left
    case = case_of(values.swapaxes(0, 1), hole.swapaxes(0, 1), coronal)
    assert axial_axis(case.scan) == 1
    assert fill(case) == pytest.approx(expected.swapaxes(0, 1)[hole.swapaxes(0, 1)])


@pytest.mark.parametrize("fill", [biharmonic, telea])
def test_a_hole_at_the_edge_of_the_slice_is_filled(fill):
    hole = np.zeros(SHAPE, bool)
    hole[2, :6, :5] = True
    values = np.random.default_rng(0).uniform(100, 200, SHAPE)
    filled = fill(case_of(values, hole))
    assert filled.shape == (30,)
    assert ((filled > 50) & (filled < 250)).all()


def test_a_missing_library_is_named_with_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(slicewise, "import_module", lambda name: missing(name) if name == "cv2" else None)
    with pytest.raises(InputError, match="pip install opencv-python-headless"):
        slicewise.check_libraries()
