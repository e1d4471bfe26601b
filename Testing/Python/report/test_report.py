"""The report of a case with known measures, and the picture of a run."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib import __version__
from MedInpaintLib.blending.rim import Rim
from MedInpaintLib.report.figure import draw_figure
from MedInpaintLib.report.measures import seam
from MedInpaintLib.report.run import run_report
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.alignment import Alignment
from MedInpaintLib.space.case import Case
from MedInpaintLib.space.intensities import LEVELS
from MedInpaintLib.space.slices import Slices
from MedInpaintLib.volumes.image import affine
from MedInpaintLib.volumes.mask import ring
from scipy import ndimage
from synthetic import GEOMETRIES, volume

SHAPE = (20, 24, 28)
SPACING = (1.0, 2.0, 1.5)  # x, y, z
MODEL = SimpleNamespace(name="mine", card={"kind": "vae", "sha256": {"weights.pt": "abc"}})


@pytest.fixture
def case():
    """100 in the brain, 500 around it; lesions of 28 and 8 voxels, the first with parts that share only an edge."""
    values = np.full(SHAPE, 500, np.float32)
    brain = np.zeros(SHAPE, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    values[brain] = 100
    hole = np.zeros(SHAPE, bool)
    hole[8:11, 8:11, 8:11] = True
    hole[11, 11, 10] = True
    hole[14:16, 14:16, 20:22] = True
    values[hole] = 7
    touched = np.zeros((8, 4, 4), bool)
    touched[1:7] = True  # the search has eight slices
    slices = Slices(touched.astype("f4"), touched, touched, ~touched, np.arange(8), 133.0)
    alignment = Alignment(sitk.AffineTransform(3), brain, 0.91, True)
    return Case(volume(values, spacing=SPACING), values, hole, None, alignment, slices)


NO_RIM = Rim(None, None, 0.0)
GENERATED = SimpleNamespace(losses=np.array([1.0, 2.0, 6.0]), curve=1.1 * LEVELS - 0.02, iterations=40)


def report_on(case, filled=100.0, generated=GENERATED, deviation=None, rim=NO_RIM):
    values = np.broadcast_to(filled, np.count_nonzero(case.hole)).astype(float)
    seconds = {"aligning": 1.25, "blending": 2}
    return run_report(case, generated, values, deviation, rim, MODEL, Settings(seed=3), "cpu", seconds)


def test_the_lesions_are_measured_in_millilitres_and_counted_by_any_contact(case):
    assert report_on(case)["lesion"] == {"volume_ml": 36 * 3 / 1000, "count": 2, "outside_brain": 0}


def test_each_lesion_is_measured_separately_and_the_largest_is_first(case):
    case.values[:] = 10 * np.arange(SHAPE[2])  # along x, 10 a millimetre
    small = case.hole.copy()
    small[:12] = False
    large, small = report_on(case, (case.values + 20 * small)[case.hole])["lesions"]
    assert (large["volume_ml"], small["volume_ml"]) == (28 * 3 / 1000, 8 * 3 / 1000)
    assert (large["index"], small["index"]) == ([9, 9, 9], [20, 14, 14])
    assert large["position_mm"] == [-31.25 + 9 * 1, 12.5 + 9 * 2, 100.75 + 9 * 1.5]
    assert large["fill"] == pytest.approx((27 * 90 + 100) / 28, rel=1e-5)
    assert (small["ring"], small["fill"]) == (205, 225)
    # Steps of 30 and 10 across its faces along x, of 20 across the others; as many of each, and 10 along x near by.
    assert small["seam"] == pytest.approx((20 + 20 / 2 + 20 / 1.5) / 10, rel=1e-5)


def with_hole(case, *boxes, **alignment):
    hole = np.zeros(SHAPE, bool)
    for box in boxes:
        hole[box] = True
    return dataclasses.replace(case, hole=hole, alignment=dataclasses.replace(case.alignment, **alignment))


def test_a_lesions_uncertainty_is_the_mean_of_its_voxels(case):
    deviation = np.where(np.arange(SHAPE[0])[:, None, None] < 12, 5.0, 8.0) * case.hole
    assert [lesion["uncertainty"] for lesion in report_on(case, deviation=deviation)["lesions"]] == [5, 8]
    assert [lesion["uncertainty"] for lesion in report_on(case)["lesions"]] == [None, None]


def test_the_position_of_a_hollow_lesion_is_its_voxel_nearest_in_millimetres_to_its_centroid(case):
    case = with_hole(case, np.s_[8:13, 9:14, 10:15])
    brain = case.hole.copy()
    case.hole[9:12, 10:13, 11:14] = False
    case.values[9:12, 10:13, 11:14] = 60
    case = dataclasses.replace(case, alignment=dataclasses.replace(case.alignment, brain=brain))
    (lesion,) = report_on(case)["lesions"]
    assert lesion["index"] == [10, 11, 10]  # x is the axis with the smallest spacing
    assert lesion["ring"] == 60  # the hollow is known


def test_a_lesion_does_not_count_as_known_tissue_of_another_lesion(case):
    case = with_hole(case, np.s_[9:12, 9:12, 8:13], np.s_[9:12, 9:12, 15:18])
    case.values[:] = 100
    near, far = report_on(case, np.where(np.argwhere(case.hole)[:, 2] < 14, 100, 900))["lesions"]
    assert (near["fill"], near["ring"], near["seam"]) == (100, 100, 1)
    assert (far["fill"], far["ring"]) == (900, 100)


def test_a_lesion_outside_the_brain_has_no_ring_and_no_seam(case):
    lesions = report_on(with_hole(case, np.s_[8:12, 8:12, 8:12], np.s_[:2, :2, -2:], brain=case.hole))["lesions"]
    assert [(lesion["fill"], lesion["ring"], lesion["seam"]) for lesion in lesions[1:]] == [(100, None, None)]
    assert lesions[1]["index"] == [SHAPE[2] - 2, 0, 0]


def test_lesions_at_the_borders_of_the_volume_are_measured(case):
    case = with_hole(case, np.s_[:3, :3, :3], np.s_[-1:, -1:, -1:], brain=np.ones(SHAPE, bool))
    case.values[:] = 100
    first, last = report_on(case)["lesions"]
    assert (first["index"], last["index"]) == ([1, 1, 1], [n - 1 for n in SHAPE[::-1]])
    assert first["ring"] == last["ring"] == 100
    assert first["seam"] == last["seam"] == 1


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_position_of_a_lesion_is_that_of_its_voxel_on_any_grid(case, name):
    scan = volume(case.values, GEOMETRIES[name], SPACING)
    for lesion in report_on(dataclasses.replace(case, scan=scan))["lesions"]:
        expected = affine(scan) @ [*lesion["index"], 1]
        np.testing.assert_allclose(lesion["position_mm"], expected[:3], rtol=1e-5)


def test_measuring_in_a_box_around_a_lesion_gives_the_values_of_the_whole_scan(case):
    random = np.random.default_rng(0)
    case.values[:] = random.normal(100, 5, SHAPE)
    case.hole[:] = random.random(SHAPE) > 0.995
    result = case.values.copy()
    result[case.hole] = random.normal(100, 5, np.count_nonzero(case.hole))
    numbers, count = ndimage.label(case.hole, np.ones((3, 3, 3)))
    spacing, brain = np.array([4.0, 2.0, 1.0]), case.alignment.brain
    scan = volume(case.values, spacing=spacing[::-1])
    lesions = report_on(dataclasses.replace(case, scan=scan), result[case.hole])["lesions"]
    assert len(lesions) == count > 20
    for lesion in lesions:
        this = numbers == numbers[tuple(lesion["index"][::-1])]
        known = brain & (this | ~case.hole)
        assert this[tuple(lesion["index"][::-1])]
        around, jump = result[ring(this, spacing, 3.0) & known], seam(result, this, spacing, known)
        assert lesion["ring"] == (pytest.approx(around.mean(), rel=1e-5) if around.size else None)
        assert lesion["seam"] == (pytest.approx(jump, rel=1e-5) if np.isfinite(jump) else None)


def test_the_report_has_the_search_the_alignment_and_the_times(case):
    report = report_on(case)
    assert report["slices"] == 6
    assert report["search"] == {
        "iterations": 40, "loss": {"median": 2, "max": 6}, "scale": 133,
    }  # fmt: skip
    levels = [round(0.1 * n, 3) for n in range(13)]
    curve = [pytest.approx(133 * (1.1 * level - 0.02)) for level in levels]
    contrast = {"name": "T1", "explained": 1, "straight": True, "levels": levels, "curve": curve}
    assert report["contrast"] == contrast
    brain_ml = 16 * 20 * 24 * 3 / 1000
    assert report["alignment"] == {
        "quality": 0.91,
        "poor": False,
        "brain_extracted": True,
        "brain_ml": brain_ml,
        "reused": False,
    }
    assert report["seconds"] == {"aligning": 1.25, "blending": 2, "total": 3.25}
    assert report["model"] == {"name": "mine", "kind": "vae", "sha256": {"weights.pt": "abc"}}
    assert report["settings"] == dataclasses.asdict(Settings(seed=3))
    assert report["versions"]["medinpaint"] == __version__
    assert all(report["versions"].values())


def test_the_report_has_the_intensities_of_the_known_brain_and_of_the_fill(case):
    intensities = report_on(case, filled=np.arange(36))["intensities"]
    flat = {"median": 100, "mean": 100, "sd": 0, "percentile_99_5": 100}
    assert intensities["ring"] == intensities["brain"] == flat
    assert intensities["fill"]["mean"] == intensities["fill"]["median"] == 17.5


def test_the_ring_is_three_millimetres_wide_on_every_axis():
    hole = np.zeros(SHAPE, bool)
    hole[10, 12, 14] = True
    voxels = np.argwhere(ring(hole, np.array(SPACING[::-1]), 3.0)) - (10, 12, 14)
    assert not (voxels == 0).all(axis=1).any()
    assert np.abs(voxels).max(axis=0).tolist() == [2, 1, 3]
    assert np.linalg.norm(voxels * SPACING[::-1], axis=1).max() == 3


def test_a_visible_seam_has_a_larger_value_than_an_invisible_one(case):
    case.values[:] += np.random.default_rng(0).normal(0, 5, SHAPE).astype(np.float32)
    same = 100 + np.random.default_rng(1).normal(0, 5, 36)
    assert report_on(case, same)["seam"] < 1.5
    assert report_on(case, same + 60)["seam"] > 5


def test_numbers_that_are_not_finite_become_null_so_that_the_report_is_valid_json(case):
    bad = SimpleNamespace(losses=np.array([np.nan]), curve=np.full(len(LEVELS), np.inf), iterations=np.int64(0))
    alignment = dataclasses.replace(case.alignment, brain=case.hole.copy())
    report = report_on(dataclasses.replace(case, alignment=alignment), generated=bad)
    back = json.loads(json.dumps(report, allow_nan=False))
    assert back["contrast"]["curve"] == [None] * len(LEVELS)
    assert back["search"]["loss"] == {"median": None, "max": None}
    assert set(back["intensities"]["ring"].values()) == {None}


def test_the_report_warns_of_a_poor_alignment_and_of_a_mask_outside_the_brain(case):
    assert report_on(case)["warnings"] == []
    half = case.alignment.brain.copy()
    half[:12] = False
    alignment = dataclasses.replace(case.alignment, quality=0.42, brain=half)
    warnings = report_on(dataclasses.replace(case, alignment=alignment))["warnings"]
    assert warnings[0].startswith("The alignment with the model is poor (0.42): check that this is a brain MRI")
    assert warnings[1].startswith("78 % of the mask lies outside the brain")


def test_the_report_says_that_a_mask_looks_tight_and_by_how_much_to_enlarge_it(case):
    report = report_on(case, rim=Rim(0.0243, 0.003, 1.0))
    assert report["rim"] == {"tight": True, "deficit": 0.0243, "error": 0.003, "width": 1.0, "lesions": None}
    (warning,) = report["warnings"]
    assert warning.startswith("The mask looks tight by about 1 mm")
    assert "enlarge the lesion by 1 mm" in warning
    assert report_on(case)["rim"] == {"tight": False, "deficit": None, "error": None, "width": 0.0, "lesions": None}


@pytest.mark.parametrize(("lesions", "words"), [(1, "one of its lesions:"), (4, "4 of its lesions:")])
def test_the_report_says_if_only_some_lesions_have_a_tight_mask(case, lesions, words):
    report = report_on(case, rim=Rim(0.25, 0.03, 1.0, lesions, case.hole))
    assert report["rim"] == {"tight": True, "deficit": 0.25, "error": 0.03, "width": 1.0, "lesions": lesions}
    (warning,) = report["warnings"]
    assert f"The mask looks tight by about 1 mm around {words} the scan looks" in warning
    json.dumps(report, allow_nan=False)


def test_a_strange_contrast_gets_a_warning(case):
    strange = SimpleNamespace(**{**vars(GENERATED), "curve": 0.5 + (LEVELS - 0.5) ** 2})
    report = report_on(case, generated=strange)
    assert report["contrast"]["name"] == "other"
    (warning,) = report["warnings"]
    assert warning.startswith("The scan's contrast looks like none of T1, T2 and FLAIR")


def test_a_t2_weighted_scan_gets_a_warning(case):
    report = report_on(case, generated=SimpleNamespace(**{**vars(GENERATED), "curve": 1.4 - LEVELS}))
    assert report["contrast"]["name"] == "T2"
    (warning,) = report["warnings"]
    assert warning.startswith("The scan looks like T2")


def warnings_of(case, curve, scale=1.0):
    """The warnings for a scan whose contrast curve is this one times the scale."""
    scaled = dataclasses.replace(case, slices=dataclasses.replace(case.slices, scale=scale))
    return report_on(scaled, generated=SimpleNamespace(**{**vars(GENERATED), "curve": curve}))["warnings"]


def test_the_intensities_of_a_ct_get_a_warning(case):
    flair_like = np.interp(LEVELS, (0.2, 0.5, 0.8), (10, 37, 27))  # fluid, grey and white matter in Hounsfield units
    (warning,) = warnings_of(case, flair_like)
    assert warning.startswith("The scan's intensities are those of a CT (Hounsfield units)")
    assert warnings_of(case, flair_like, 30.0) == []  # FLAIR has the same order of tissues, not the same values


def test_a_scan_whose_grey_and_white_matter_are_alike_gets_a_warning(case):
    with_offset = np.interp(LEVELS, (0.2, 0.5, 0.8), (1010, 1037, 1027))  # as a CT that is stored as HU + 1000
    (warning,) = warnings_of(case, with_offset)
    assert warning.startswith("Grey and white matter hardly differ in this scan, as in a CT or a phantom")
    assert warnings_of(case, np.interp(LEVELS, (0.2, 0.5, 0.8), (400, 1398, 1330))) == []  # a real FLAIR scan


# --- the picture


def test_the_figure_has_a_plot_of_the_contrast_curve(case, tmp_path):
    scan = volume(case.values, spacing=SPACING)
    generated = sitk.Cast(scan, sitk.sitkFloat32)
    widths, orange = [], []
    for contrast in (None, report_on(case)["contrast"]):
        draw_figure(tmp_path / "figure.png", scan, case.hole, generated, scan, contrast)
        picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "figure.png")))[..., :3].astype(int)
        widths.append(picture.shape[1])
        extra = picture[:, widths[0] :]
        orange.append(np.count_nonzero((extra[..., 0] > 200) & (extra[..., 2] < 60)))
    assert widths[1] > widths[0] + 200
    assert orange[1] > 100 > orange[0] == 0


def pixels(path, scan, hole, generated=None, filled=None):
    from matplotlib.image import imread

    draw_figure(path, scan, hole, generated or sitk.Cast(scan, sitk.sitkFloat32), filled or scan)
    return imread(path)[..., :3]


def gradient(like):
    """A copy with intensities that grow from the patient's right to their left, and from the back to the front."""
    grid = like.GetSize(), like.GetOrigin(), like.GetSpacing(), like.GetDirection()
    points = sitk.PhysicalPointSource(sitk.sitkVectorFloat64, *grid)
    left, back, _ = (sitk.VectorIndexSelectionCast(points, axis) for axis in range(3))
    return sitk.Cast(left * 2 - back + 500, sitk.sitkInt16)


@pytest.mark.parametrize(
    ("name", "order"), list(zip(GEOMETRIES, [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)], strict=True))
)
def test_the_patients_left_is_shown_right_and_the_front_up(case, tmp_path, name, order):
    scan = sitk.PermuteAxes(gradient(volume(case.values, GEOMETRIES[name], SPACING)), order)
    hole = sitk.PermuteAxes(volume(case.hole.astype(np.uint8), GEOMETRIES[name], SPACING), order)
    picture = pixels(tmp_path / "figure.png", scan, sitk.GetArrayFromImage(hole) > 0).mean(axis=2)
    height, width = picture.shape
    first = picture[int(0.1 * height) : int(0.5 * height), int(0.02 * width) : int(0.23 * width)]
    assert first[:, -20:].mean() > first[:, :20].mean() + 0.2
    assert first[:20].mean() > first[-20:].mean() + 0.1


def test_the_four_panels_show_before_mask_generated_and_after(case, tmp_path):
    fill = case.values.copy()
    fill[case.hole] = 500
    black = volume(case.values * 0, spacing=SPACING)
    picture = pixels(tmp_path / "figure.png", case.scan, case.hole, black, volume(fill, spacing=SPACING))
    before, mask, generated, after = np.array_split(picture[60:], 4, axis=1)
    amber = [(np.abs(part - (1, 0.69, 0)).max(axis=2) < 0.1).any() for part in (before, mask, generated, after)]
    assert amber == [False, True, False, False]
    assert generated.max() < 0.1
    assert after[-300:].mean() > before[-300:].mean() + 0.01
    assert list(tmp_path.iterdir()) == [tmp_path / "figure.png"]
