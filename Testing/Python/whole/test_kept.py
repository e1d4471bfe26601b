"""What a run leaves for the next one: the same bits, without loading and aligning again."""

import MedInpaintLib.kept
import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib import InputError, Settings, inpaint
from MedInpaintLib.kept import MOST_SEEN, Kept
from MedInpaintLib.models.folder import Model
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.space.alignment import Alignment, align, brain_mask

pytestmark = pytest.mark.usefixtures("fast_engine")

QUICK = Settings(iterations=0, device="cpu")
IMAGES = "image", "generated", "uncertainty"


@pytest.fixture
def counted(monkeypatch):
    """Counts the alignments and the loaded networks."""
    calls = []

    def aligned(*given):
        calls.append("align")
        return align(*given)

    network = Model.network

    def loaded(self, device):
        calls.append(self.name)
        return network(self, device)

    monkeypatch.setattr(MedInpaintLib.kept, "align", aligned)
    monkeypatch.setattr(Model, "network", loaded)
    return calls


def without_times(result):
    return {**result.report, "seconds": None}


def test_a_second_run_gives_the_bits_of_a_first_one_and_neither_loads_nor_aligns(scan, mask, counted):
    kept, fresh = Kept(), inpaint(scan, mask, QUICK)
    assert fresh.report["alignment"].pop("reused") is False
    counted.clear()
    for reused in (False, True):
        result = inpaint(scan, mask, QUICK, kept=kept)
        assert result.report["alignment"].pop("reused") == reused
        for name in IMAGES:
            got, wanted = (sitk.GetArrayViewFromImage(getattr(each, name)) for each in (result, fresh))
            np.testing.assert_array_equal(got, wanted)
        assert without_times(result) == without_times(fresh)
    assert counted == ["linear", "align"]


def test_another_mask_changes_the_hole_and_the_brain_round_it_but_not_the_alignment(scan, mask, counted):
    kept = Kept()
    template, _ = kept.load(find_model("linear"))
    values = sitk.GetArrayFromImage(scan).astype(np.float32)
    hole = sitk.GetArrayFromImage(mask) > 0
    first = kept.align(scan, values, hole, template)
    other = np.roll(hole, 4, axis=1)
    outside = values.copy()
    outside[other] = 0  # as in a scan whose lesion was removed with the skull
    again = kept.align(scan, outside, other, template)
    assert counted == ["linear", "align"]
    assert again.transform is first.transform
    assert (again.quality, again.extracted) == (first.quality, True)
    assert (first.reused, again.reused) == (False, True)
    fresh = align(scan, values, hole, template)
    np.testing.assert_array_equal(first.brain, fresh.brain)
    np.testing.assert_array_equal(again.brain, fresh.brain)  # the zeros of the hole are in the brain


def test_the_brain_of_a_whole_head_is_kept_and_does_not_depend_on_the_hole(scan, mask, counted, monkeypatch):
    kept = Kept()
    template, _ = kept.load(find_model("linear"))
    hole = sitk.GetArrayFromImage(mask) > 0
    values = np.ones(hole.shape, np.float32)
    transform = align(scan, sitk.GetArrayFromImage(scan).astype(np.float32), hole, template).transform
    brain = brain_mask(scan, values, hole, template, transform, extracted=False)
    monkeypatch.setattr(MedInpaintLib.kept, "align", lambda *given: Alignment(transform, brain, 0.9, False))
    monkeypatch.setattr(MedInpaintLib.kept, "brain_mask", None)
    kept.align(scan, values, hole, template)
    other = np.roll(hole, 4, axis=1)
    again = kept.align(scan, values, other, template)
    assert again.reused
    np.testing.assert_array_equal(again.brain, brain_mask(scan, values, other, template, transform, extracted=False))


def test_another_scan_or_grid_or_a_lesion_that_was_seen_is_aligned_anew(scan, mask, counted, monkeypatch):
    kept = Kept()
    template, _ = kept.load(find_model("linear"))
    hole = sitk.GetArrayFromImage(mask) > 0
    quick = Alignment(sitk.AffineTransform(3), hole, 0.9, True)  # a registration takes seconds
    monkeypatch.setattr(MedInpaintLib.kept, "align", lambda *given: counted.append("align") or quick)

    def aligned_anew(scan, hole):
        counted.clear()
        kept.align(scan, sitk.GetArrayFromImage(scan).astype(np.float32), hole, template)
        return counted == ["align"]

    assert aligned_anew(scan, hole)
    assert not aligned_anew(scan, hole)
    moved = sitk.Image(scan)
    moved.SetOrigin([x + 1 for x in scan.GetOrigin()])
    assert aligned_anew(moved, hole)
    assert aligned_anew(scan, hole)
    other = sitk.Image(scan)
    other[50, 50, 40] += 1
    assert aligned_anew(other, hole)
    assert aligned_anew(scan, hole)

    brain = np.argwhere((sitk.GetArrayFromImage(scan) > 0) & ~hole)
    middle = brain[np.argsort(((brain - brain.mean(axis=0)) ** 2).sum(axis=1))]
    most = int(MOST_SEEN / 0.008)
    for count, anew in ((most, False), (most + 1, True)):
        large = hole.copy()
        large[tuple(middle[:count].T)] = True
        assert aligned_anew(scan, large) == anew
    assert not aligned_anew(scan, hole)  # the large hole held all of the small one


def test_a_model_with_the_same_template_keeps_the_alignment(scan, mask, counted):
    kept = Kept()
    inpaint(scan, mask, QUICK, kept=kept)
    inpaint(scan, mask, Settings(model="vae3", iterations=0, device="cpu"), kept=kept)
    assert counted == ["linear", "align", "vae3"]


def test_a_run_that_is_refused_leaves_what_was_kept(scan, mask, counted):
    kept = Kept()
    inpaint(scan, mask, QUICK, kept=kept)
    with pytest.raises(InputError):
        inpaint(scan, mask * 0, QUICK, kept=kept)
    inpaint(scan, mask, QUICK, kept=kept)
    assert counted == ["linear", "align"]
