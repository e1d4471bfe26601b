"""The evaluation: fair cases, whole tables, right summaries. On a synthetic brain of 4 mm voxels."""

import argparse
import csv
from dataclasses import astuple, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.alignment import Alignment, Template
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation import compare, fills
from MedInpaintLib.evaluation.cases import Hole, Lesions, cut_out, draw_hole, read_lesions, read_subject, scan_to_scan
from MedInpaintLib.evaluation.tables import Row, append_row, read_rows, summary
from MedInpaintLib.image import like
from MedInpaintLib.settings import Settings
from MedInpaintLib.training.prepare import LEVELS, SliceData, save
from scipy import ndimage

SHAPE, SPACING = (36, 44, 36), 4.0
TIMES = ("preparation", "seconds")


def image_of(array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([SPACING] * 3)
    image.SetOrigin([-SPACING * (n - 1) / 2 for n in array.shape[::-1]])
    return image


@pytest.fixture(scope="module")
def data():
    """Six brains that share their anatomy and differ smoothly."""
    rng = np.random.default_rng(0)
    centred = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    brain = (centred**2).sum(axis=0) < 0.64

    def smooth(sigma):
        field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), sigma)
        return field / field.std()

    anatomy = 0.6 + 0.15 * smooth(2)
    brains = np.stack([np.clip(anatomy + 0.05 * smooth(3), 0.1, 1.2) * brain for _ in range(6)])
    template = Template(image_of(brains.mean(axis=0).astype(np.float32)), image_of(brain.astype(np.uint8)))
    names = [f"sub-{n}" for n in range(6)]
    return SliceData(np.rint(brains * LEVELS).astype(np.uint8), names, np.arange(6) == 5, template, source={})


@pytest.fixture(scope="module")
def scan_file(data, tmp_path_factory):
    """The tuning brain as an integer scan, turned and shifted."""
    pose = sitk.Euler3DTransform((0, 0, 0), 0.1, 0.03, -0.05, (6, -5, 4))
    scan = sitk.Resample(image_of(data.brains(tuning=True)[0]), pose, sitk.sitkLinear) * 1000
    path = tmp_path_factory.mktemp("scans") / "sub-5_T1w.nii.gz"
    sitk.WriteImage(sitk.Cast(scan, sitk.sitkInt16), str(path))
    return path


@pytest.fixture(scope="module")
def subject(data, scan_file):
    return read_subject(scan_file, data.template)


@pytest.fixture(scope="module")
def hole(subject):
    return draw_hole("ellipsoid14", 0, subject, None, seed=0)


@pytest.fixture
def baselines(data):
    return fills.all_fills(data, [], Settings())


@pytest.fixture
def options(data, scan_file, tmp_path):
    """Parse the command's options for the synthetic data."""
    save(data, tmp_path / "slices.npz")
    parser = argparse.ArgumentParser()
    compare.main_options(parser)
    given = ["--scans", str(scan_file), "--data", str(tmp_path / "slices.npz"), "--output", str(tmp_path / "out")]
    return lambda *more: parser.parse_args([*given, *more])


@pytest.fixture(scope="module")
def case(data, subject, hole):
    return cut_out(subject, hole, data.template)


@pytest.fixture(scope="module")
def twins(data, subject, hole):
    """The case with another truth in the hole, and with another rim beside it."""
    rim = ndimage.binary_dilation(hole.voxels, iterations=2) & ~hole.voxels & subject.brain
    cases = []
    for voxels in (hole.voxels, rim):
        array = sitk.GetArrayFromImage(subject.scan)
        array[voxels] = 1200 - array[voxels]
        cases.append(cut_out(replace(subject, scan=like(subject.scan, array)), hole, data.template))
    return cases


@pytest.mark.parametrize("name", ["harmonic", "mean", "linear"])
def test_the_truth_in_the_hole_changes_no_fill_and_what_is_beside_it_does(baselines, case, twins, name):
    fill, other_truth, other_rim = (baselines[name](each) for each in (case, *twins))
    assert np.array_equal(fill, other_truth)
    assert np.abs(fill - other_rim).mean() > 10


def test_the_linear_model_comes_closer_to_the_truth_than_the_harmonic_fill(baselines, subject, hole, case):
    linear, harmonic = (compare.judge(subject, hole, case, n, baselines[n], 0.0)[0] for n in ("linear", "harmonic"))
    assert linear.psnr > harmonic.psnr + 1


def test_a_fill_is_measured_as_rounded_to_the_scans_type(subject, hole, case):
    truth = sitk.GetArrayFromImage(subject.scan)[hole.voxels]
    row, voxels = compare.judge(subject, hole, case, "nearly", lambda case: truth + 0.4, 1.5)
    assert row.psnr == float("inf")
    assert row.preparation == 1.5
    assert voxels.dtype == np.int16
    assert np.array_equal(voxels, truth)
    assert row.hole_ml == pytest.approx(hole.voxels.sum() * SPACING**3 / 1000)


def test_voxels_changed_outside_the_hole_are_counted(subject, hole, case):
    wider = replace(case, hole=ndimage.binary_dilation(hole.voxels) & subject.brain)
    counts = [
        compare.judge(subject, hole, each, "one", lambda case: np.ones(case.hole.sum()), 0.0)[0].changed_outside
        for each in (case, wider)
    ]
    assert counts == [0, wider.hole.sum() - hole.voxels.sum()]


def affine(seed):
    rng = np.random.default_rng(seed)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((np.eye(3) + 0.1 * rng.standard_normal((3, 3))).ravel().tolist())
    transform.SetTranslation((5 * rng.standard_normal(3)).tolist())
    return transform


def test_a_point_goes_from_scan_to_scan_through_the_template():
    here, there = (Alignment(affine(seed), np.ones((1, 1, 1), bool), 1.0, True) for seed in (1, 2))
    for point in ((0.0, 0.0, 0.0), (30.0, -20.0, 10.0)):
        moved = scan_to_scan(here, there).TransformPoint(here.transform.TransformPoint(point))
        assert moved == pytest.approx(there.transform.TransformPoint(point), abs=1e-9)


def test_a_lesion_lies_at_the_same_place_of_the_brain_in_another_scan(data, subject, tmp_path):
    place = np.array([12.0, -8.0, 10.0])  # mm, in the template
    other = Alignment(affine(3), np.ones(SHAPE, bool), 1.0, True)
    scan = data.template.image
    points = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"))[::-1] * SPACING
    points += np.reshape(scan.GetOrigin(), (3, 1, 1, 1))
    centre = np.reshape(other.transform.TransformPoint(place), (3, 1, 1, 1))
    sitk.WriteImage(
        like(scan, (np.linalg.norm(points - centre, axis=0) < 12).astype(np.uint8)), str(tmp_path / "p1_mask.nii.gz")
    )
    carried = Lesions((tmp_path / "p1_mask.nii.gz",), scan, other).on(0, subject)
    z, y, x = ndimage.center_of_mass(carried)
    found = subject.scan.TransformContinuousIndexToPhysicalPoint((x, y, z))
    assert found == pytest.approx(subject.alignment.transform.TransformPoint(place), abs=0.5)


def test_lesions_clipped_to_nothing_are_refused(data, subject, tmp_path):
    corner = np.zeros(SHAPE, np.uint8)
    corner[:2, :2, :2] = 1
    sitk.WriteImage(like(data.template.image, corner), str(tmp_path / "p1_mask.nii.gz"))
    away = Lesions((tmp_path / "p1_mask.nii.gz",), data.template.image, subject.alignment)
    with pytest.raises(InputError, match="misses the brain"):
        away.on(0, subject)


def test_the_lesion_scan_is_aligned_without_its_own_lesions(data, scan_file, tmp_path):
    scan = sitk.ReadImage(str(scan_file))
    black = np.zeros(SHAPE, np.uint8)
    black[14:22, 16:26, 8:16] = 1
    for name in ("p1_mask", "p2_mask"):
        sitk.WriteImage(like(scan, black), str(tmp_path / f"{name}.nii.gz"))
    qualities = []
    for factor in (1, 5):
        array = sitk.GetArrayFromImage(scan)
        array[black > 0] *= factor
        sitk.WriteImage(like(scan, array), str(tmp_path / "p1_T1.nii.gz"))
        qualities += [
            read_lesions([tmp_path / mask], tmp_path / "p1_T1.nii.gz", data.template).alignment.quality
            for mask in ("p1_mask.nii.gz", "p2_mask.nii.gz")
        ]
    assert abs(qualities[0] - qualities[2]) < abs(qualities[1] - qualities[3])


def test_a_hole_depends_only_on_its_kind_its_index_the_scans_name_and_the_seed(subject):
    def drawn(kind="ellipsoid8", index=1, seed=3, name=subject.name):
        return draw_hole(kind, index, replace(subject, name=name), None, seed).voxels

    assert np.array_equal(drawn(), drawn())
    for other in ({"index": 2}, {"seed": 4}, {"kind": "ellipsoid9"}, {"name": "sub-6"}):
        assert not np.array_equal(drawn(), drawn(**other))


def test_each_lesion_mask_is_used_once_before_any_is_used_again(subject):
    paths = tuple(SimpleNamespace(name=f"p{n}_mask.nii.gz") for n in range(5))
    lesions = SimpleNamespace(masks=paths, on=lambda index, subject: np.ones((1, 1, 1), bool))
    shapes = [draw_hole("lesions", index, subject, lesions, seed=0).shape for index in range(10)]
    assert len(set(shapes[:5])) == 5
    assert shapes[5:] == shapes[:5]


def table_without_times(folder):
    return [replace(row, **dict.fromkeys(TIMES, 0.0)) for row in read_rows(folder / "cases.csv")]


def test_an_interrupted_run_goes_on_and_makes_the_same_table(data, scan_file, baselines, tmp_path):
    plan = {scan_file: [("ellipsoid8", 0), ("ellipsoid8", 1)]}
    called = []

    def counted(name, fail_at=0):
        def fill(case):
            called.append(name)
            if len(called) == fail_at:
                raise KeyboardInterrupt
            return baselines[name](case)

        return fill

    def run(folder, fail_at=0):
        called.clear()
        folder.mkdir(exist_ok=True)
        given = {name: counted(name, fail_at) for name in ("harmonic", "mean")}
        compare.compare(plan, given, data.template, None, 0, folder)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", fail_at=4)
    assert not (tmp_path / "a" / "summary.md").exists()
    run(tmp_path / "a")
    assert called == ["mean"]
    run(tmp_path / "b")
    assert called == ["harmonic", "mean"] * 2
    assert table_without_times(tmp_path / "a") == table_without_times(tmp_path / "b")
    pictures = [(tmp_path / f / "pictures" / "sub-5_T1w_ellipsoid8_1.png").read_bytes() for f in "ab"]
    assert pictures[0] == pictures[1]
    run(tmp_path / "a")
    assert called == []


def row(**given):
    numbers = {field.name: 1 if field.type == "int" else 1.0 for field in fields(Row) if field.type != "str"}
    words = {"scan": "s", "kind": "k", "shape": "", "fill": "f"}
    return Row(**{**numbers, **words, "changed_outside": 0, **given})


def test_a_row_that_was_cut_off_is_dropped_and_the_table_goes_on(tmp_path):
    path = tmp_path / "cases.csv"
    rows = [row(index=n, psnr=20.25 + n) for n in range(3)]
    for each in rows[:2]:
        append_row(path, each)
    path.write_text(path.read_text()[:-6])
    assert read_rows(path) == rows[:1]
    append_row(path, rows[2])
    assert read_rows(path) == [rows[0], rows[2]]


def test_the_summary_gives_numpys_medians_and_paired_differences(tmp_path):
    rng = np.random.default_rng(0)
    psnr = {"harmonic": rng.uniform(15, 20, 7), "linear": rng.uniform(18, 22, 7), "vae3": rng.uniform(17, 24, 7)}
    path = tmp_path / "cases.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Row)])
        for name, values in psnr.items():
            for index in rng.permutation(7):  # pairs are found by case, not by order
                writer.writerow(astuple(row(fill=name, index=index, psnr=values[index], ssim=values[index] / 30)))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in summary(read_rows(path)).splitlines()]
    for name, values in psnr.items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        shown = next(line for line in lines if line[:2] == [name, "7"])
        assert shown[2] == f"{middle:.2f} [{low:.2f}, {high:.2f}]"
    for name, reference in (("vae3", "harmonic"), ("vae3", "linear"), ("linear", "harmonic")):
        difference = psnr[name] - psnr[reference]
        shown = next(line for line in lines if line[:2] == [name, reference])
        assert shown[2:] == [
            "7", f"{np.median(difference):+.2f}", f"{np.median(difference) / 30:+.3f}",
            str((difference < 0).sum()), f"{difference.min():+.2f}",
        ]  # fmt: skip


def test_the_summary_says_what_was_changed_outside_and_where_geometry_differs():
    rows = [row(index=1, changed_outside=3), row(index=2, same_geometry=0), row(index=3, same_type=0), row(index=4)]
    assert "outside the holes: 3. Geometry and type identical: 2 of 4." in summary(rows)


def test_the_command_writes_table_summary_and_pictures(options, capsys):
    args = options("--holes", "ellipsoid8,ellipsoid12", "--quick")
    assert compare.run(args) == 0
    rows = read_rows(args.output / "cases.csv")
    assert [(row.case, row.fill) for row in rows] == [
        ("sub-5_T1w_ellipsoid8_0", name) for name in ("harmonic", "mean", "linear")
    ]
    assert all((row.changed_outside, row.same_geometry, row.same_type) == (0, 1, 1) for row in rows)
    assert (args.output / "summary.md").read_text() in capsys.readouterr().out
    assert (args.output / "pictures" / "sub-5_T1w_ellipsoid8_0.png").stat().st_size > 10_000

    with pytest.raises(InputError, match=r"another experiment \(seed\)"):
        compare.run(options("--holes", "ellipsoid8", "--seed", "1"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--lesion-masks"),
        (["--holes", "ellipsoid"], "no hole 'ellipsoid'"),
        (["--holes", "ellipsoid8,"], "no hole ''"),
        (["--holes", "ellipsoid8", "--cases-per-scan", "0"], "--cases-per-scan"),
        (["--holes", "ellipsoid8", "--scans", "a/s.nii", "b/s.nii.gz"], "same file name"),
        (["--holes", "ellipsoid8", "--model", "nothing"], "no model 'nothing'"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(options, given, message):
    args = options(*given)
    with pytest.raises(InputError, match=message):
        compare.run(args)
    assert not args.output.exists()


def test_a_model_of_another_space_is_refused(data, monkeypatch):
    other = SimpleNamespace(name="other", template=lambda: Template(data.template.image[:-2], data.template.brain))
    monkeypatch.setattr(fills, "find_model", lambda name: other)
    with pytest.raises(InputError, match="trained on other slices"):
        fills.all_fills(data, ["other"], Settings())


def test_a_hole_names_the_lesion_it_was_cut_with(subject, hole, case, baselines):
    named = Hole("lesions", 2, "patient07_consensus", hole.voxels)
    made, _ = compare.judge(subject, named, case, "harmonic", baselines["harmonic"], 0.0)
    assert (made.kind, made.index, made.shape, made.fill) == ("lesions", 2, "patient07_consensus", "harmonic")
    assert made.case == "sub-5_T1w_lesions_2"
