"""Hostile scans, masks and paths: each ends with a correct result or with one sentence; see also hostile_inputs.py."""

import signal

import pytest
from hostile import FILLED, Damage, Hostile, check_case, hostile
from hypothesis import HealthCheck, given, settings
from MedInpaintLib.command import outputs
from MedInpaintLib.pipeline import Result
from MedInpaintLib.space.case import check_input

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "alarm"), reason="POSIX signals"),
    pytest.mark.usefixtures("fast_engine"),
]

FILLED_CASES = {
    "float64, left-handed, NRRD": Hostile(dtype="float64", direction="left-handed", suffix=".nrrd"),
    "lesion without a finite value": Hostile(dtype="float32", values="NaN in the hole", suffix=".nii"),
    "one voxel": Hostile(mask="one voxel", mask_dtype="float32", folder="Läsion 脳 мозг"),
    "negative": Hostile(values="shifted below 0", dtype="int32", output="a.b.c.d.nii"),
    "huge": Hostile(values="huge", dtype="float32", output=f"r.{'v' * 225}.nii"),
}
REFUSED_CASES = {
    "cut off": (Hostile(damage=Damage("truncated", 0.9)), "cannot be read"),
    "a bit flipped": (Hostile(damage=Damage("flipped", 0.7)), "cannot be read"),
    "an empty mask file": (Hostile(damaged="mask.x", damage=Damage("empty")), "cannot be read"),
    "bomb": (Hostile(damage=Damage("bomb")), "cannot be read"),
    "too much announced": (Hostile(damage=Damage("announced", 1.0)), "too many"),
    "more announced than is there": (Hostile(suffix=".nii", damage=Damage("announced", 0.0)), "too many"),
    "no columns": (Hostile(damage=Damage("header", 0, "dim 1", -1)), "cannot be read"),
    "no size": (Hostile(damage=Damage("header", 0, "sizeof_hdr", -1), origin=float("nan")), "cannot be read"),
    "no axes": (Hostile(damage=Damage("header", 0, "dim 0", 0), suffix=".nii"), "cannot be read"),
    "no type": (Hostile(damage=Damage("header", 0, "datatype", 352.5), suffix=".nii"), "cannot be read"),
    "colours": (Hostile(damage=Damage("header", 0, "datatype", 128), suffix=".nii"), "3 values per voxel"),
    "voxels far away": (Hostile(damage=Damage("header", 0, "vox_offset", 1e7)), "cannot be read"),
    "far too small": (Hostile(spacing=(1e-30, 1, 1), suffix=".mha"), "no scan has"),
    "singular": (Hostile(direction="singular"), "cannot be read"),
    "far away": (Hostile(origin=1e30, suffix=".mha"), "no scan has"),
    "nowhere": (Hostile(origin=float("nan")), "no scan has"),
    "another extension": (Hostile(damage=Damage("renamed", 0, ".nrrd")), "cannot be read"),
    "empty mask": (Hostile(mask="empty"), "The mask is empty"),
    "whole mask": (Hostile(mask="the whole scan"), "covers the whole scan"),
    "single slice": (Hostile(shape="single slice", suffix=".mha"), "single slice"),
    "thin": (Hostile(shape="two slices"), "too thin"),
    "small": (Hostile(spacing=(1e-3, 1e-3, 1e-3)), "too thin"),
    "a mask that leaves one voxel": (Hostile(mask="all but one voxel"), "cannot be aligned"),
    "background": (Hostile(mask="the background"), "larger than the brain"),
    "constant": (Hostile(values="constant"), "same value in every voxel"),
    "no number": (Hostile(dtype="float32", values="NaN everywhere"), "same value in every voxel"),
    "infinite voxel": (Hostile(dtype="float64", values="one infinite voxel"), "non-finite voxels"),
    "no name": (Hostile(output="r\0.nii"), "is no valid text"),
    "too long a name": (Hostile(output="r" * 300 + ".nii"), "cannot be written"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILLED_CASES.values(), ids=FILLED_CASES)
def test_unusual_but_correct_input_is_filled(small, case):
    assert check_case(case, small) == FILLED


@pytest.mark.parametrize(("case", "complaint"), REFUSED_CASES.values(), ids=REFUSED_CASES)
def test_input_that_cannot_be_used_is_refused_in_one_sentence(small, case, complaint):
    assert complaint in check_case(case, small)


@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(case=hostile())
def test_reading_checking_and_writing_withstand_hostile_input(small, case):
    """A stub replaces the engine, which takes seconds; hostile_inputs.py runs it."""

    def copy(scans, masks, settings, progress):
        (scan,), (mask,) = scans, masks
        _, hole = check_input(scan, mask, settings.label, settings.grow)
        return [Result(scan, scan, scan, {"warnings": []}, hole)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "inpaint_together", copy)
        assert check_case(case, small)
