"""The evaluation: fair cases, whole tables, right summaries. On a synthetic brain of 4 mm voxels."""

import argparse
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from brains import SHAPE, SPACING, six_brains, tuning_scan
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation import compare
from MedInpaintLib.evaluation.fills import models
from MedInpaintLib.evaluation.fills.baselines import baselines as all_baselines
from MedInpaintLib.evaluation.holes.cases import Hole, cut_hole, draw_hole
from MedInpaintLib.evaluation.holes.lesions import Lesions, read_lesions, scan_to_scan
from MedInpaintLib.evaluation.holes.subjects import read_subject
from MedInpaintLib.evaluation.measures.measure_fill import measure_fill
from MedInpaintLib.evaluation.tables.rows import read_rows
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.alignment import Alignment
from MedInpaintLib.space.template import Template
from MedInpaintLib.training.slices.data import save
from MedInpaintLib.volumes.image import like
from scipy import ndimage

MEASURED_ANEW = ("preparation", "seconds", "memory", "slice_psnr", "brats_mse", "brats_psnr", "brats_ssim")


@pytest.fixture(scope="module")
def data():
    return six_brains()


@pytest.fixture(scope="module")
def scan_file(data, tmp_path_factory):
    return tuning_scan(tmp_path_factory.mktemp("scans") / "group")


@pytest.fixture(scope="module")
def subject(data, scan_file):
    return read_subject(scan_file, data.template)


@pytest.fixture(scope="module")
def hole(subject):
    return draw_hole("ellipsoid14", 0, subject, None, seed=0)


@pytest.fixture(scope="module")
def baselines(data):
    return all_baselines(data)


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
    return cut_hole(subject, hole, data.template)


@pytest.fixture(scope="module")
def twins(data, subject, hole):
    """The case with another truth in the hole, and with another rim beside it."""
    rim = ndimage.binary_dilation(hole.voxels, iterations=2) & ~hole.voxels & subject.brain
    cases = []
    for voxels in (hole.voxels, rim):
        array = sitk.GetArrayFromImage(subject.scan)
        array[voxels] = 1200 - array[voxels]
        cases.append(cut_hole(replace(subject, scan=like(subject.scan, array)), hole, data.template))
    return cases


@pytest.mark.parametrize("name", ["harmonic", "biharmonic", "telea", "mean", "linear"])
def test_the_truth_in_the_hole_changes_no_fill_and_what_is_beside_it_does(baselines, case, twins, name):
    fill, other_truth, other_rim = (baselines[name](each) for each in (case, *twins))
    assert np.array_equal(fill, other_truth)
    assert np.abs(fill - other_rim).mean() > 10


def test_the_linear_model_comes_closer_to_the_truth_than_the_harmonic_fill(baselines, subject, hole, case):
    linear, harmonic = (measure_fill(subject, hole, case, n, baselines[n], 0.0)[0] for n in ("linear", "harmonic"))
    assert linear.psnr > harmonic.psnr + 1


def test_a_fill_is_measured_as_rounded_to_the_scans_type(subject, hole, case):
    truth = sitk.GetArrayFromImage(subject.scan)[hole.voxels]
    row, voxels = measure_fill(subject, hole, case, "nearly", lambda case: truth + 0.4, 1.5)
    assert row.psnr == float("inf")
    assert row.preparation == 1.5
    assert voxels.dtype == np.int16
    assert np.array_equal(voxels, truth)
    assert row.hole_ml == pytest.approx(hole.voxels.sum() * SPACING**3 / 1000)


def test_voxels_changed_outside_the_hole_are_counted(subject, hole, case):
    wider = replace(case, hole=ndimage.binary_dilation(hole.voxels) & subject.brain)
    counts = [
        measure_fill(subject, hole, each, "one", lambda case: np.ones(case.hole.sum()), 0.0)[0].changed_outside
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
    return [replace(row, **dict.fromkeys(MEASURED_ANEW, 0.0)) for row in read_rows(folder / "cases.csv")]


def test_an_interrupted_run_goes_on_and_makes_the_same_table(data, scan_file, baselines, tmp_path):
    plan = {scan_file: [("ellipsoid8", 0), ("square25", 0)]}
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
        compare.compare(plan, {"ellipsoid8": given, "square25": given}, data.template, None, 0, folder)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", fail_at=4)
    assert len(read_rows(tmp_path / "a" / "cases.csv")) == 3
    run(tmp_path / "a")
    assert called == ["mean"]
    run(tmp_path / "b")
    assert called == ["harmonic", "mean"] * 2
    assert table_without_times(tmp_path / "a") == table_without_times(tmp_path / "b")
    pictures = [(tmp_path / f / "pictures" / "group_sub-5_T1w_square25_0.png").read_bytes() for f in "ab"]
    assert pictures[0] == pictures[1]
    run(tmp_path / "a")
    assert called == []


def test_the_command_writes_table_summary_and_pictures(options, capsys):
    args = options("--holes", "ellipsoid8,ellipsoid12", "--quick")
    assert compare.run(args) == 0
    rows = read_rows(args.output / "cases.csv")
    assert [(row.case, row.fill) for row in rows] == [
        ("group_sub-5_T1w_ellipsoid8_0", name) for name in ("harmonic", "biharmonic", "telea", "mean", "linear")
    ]
    assert all((row.changed_outside, row.same_geometry, row.same_type) == (0, 1, 1) for row in rows)
    assert (args.output / "summary.md").read_text() in capsys.readouterr().out
    assert (args.output / "pictures" / "group_sub-5_T1w_ellipsoid8_0.png").stat().st_size > 10_000

    with pytest.raises(InputError, match=r"another experiment \(seed\)"):
        compare.run(options("--holes", "ellipsoid8", "--seed", "1"))


def test_the_command_writes_the_report(options, tmp_path):
    args = options("--holes", "square25,ellipsoid8", "--quick", "--report", str(tmp_path / "report"))
    compare.run(args)
    text = (tmp_path / "report" / "Experiment.md").read_text()
    assert compare.command_line(args) in text
    assert "![Squares in one slice" in text


def test_the_command_is_told_without_the_folders_it_was_run_in(options, tmp_path):
    masks = [str(tmp_path / "masks" / f"p{n}.nii.gz") for n in range(4)]
    args = options("--lesion-masks", *masks, "--model", str(tmp_path / "vae3"), "gan3", "--seed", "2", "--quick")
    assert compare.command_line(args).split(" \\\n    ") == [
        "medinpaint evaluate", "--scans group/sub-5_T1w.nii.gz", "--data slices.npz", "--model vae3 gan3",
        "--lesion-masks masks/p0.nii.gz ... masks/p3.nii.gz", "--seed 2", "--output out", "--quick",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--lesion-masks"),
        (["--holes", "ellipsoid"], "no hole 'ellipsoid'"),
        (["--holes", "ellipsoid8,"], "no hole ''"),
        (["--holes", "ellipsoid8", "--cases-per-scan", "0"], "--cases-per-scan"),
        (["--holes", "ellipsoid8", "--scans", "a/s.nii", "a/s.nii.gz"], "same file name"),
        (["--holes", "square51"], "1 to 50 percent"),
        (["--holes", "square25mm"], "no hole 'square25mm'"),
        (["--holes", "ellipsoid8", "--ablations", "square25"], "not among --holes"),
        (["--holes", "ellipsoid8", "--model", "nothing"], "no model 'nothing'"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(options, given, message):
    args = options(*given)
    with pytest.raises(InputError, match=message):
        compare.run(args)
    assert not args.output.exists()


def test_a_model_of_another_space_is_refused(data, tmp_path):
    other = Template(data.template.image[:-2], data.template.brain)
    model = SimpleNamespace(name="other", folder=tmp_path, template=lambda: other)
    with pytest.raises(InputError, match="trained on other slices"):
        models.model_fills([model], data.template, Settings())


@pytest.fixture
def searched(data, tmp_path, monkeypatch):
    """A model whose search finds the mean brain; its fills, those of its ablations, and the settings of each search."""
    settings = []

    def generate(network, slices, count, given, progress):
        settings.append(given)
        return SimpleNamespace(slices=data.brains(tuning=False).mean(axis=0)[slices.heights])

    monkeypatch.setattr(models, "generate", generate)
    model = SimpleNamespace(name="vae3", folder=tmp_path, template=lambda: data.template, network=lambda device: None)
    return *models.model_fills([model], data.template, Settings()), settings


def test_a_model_is_searched_without_prior_and_weighting_and_once_for_all_blendings(searched, case):
    full, ablated, settings = searched
    made = {name: fill(case) for name, fill in (full | ablated).items()}
    assert list(made) == ["vae3", *(f"vae3 {ablation}" for ablation in models.ABLATIONS)]
    lacking = [(one.prior, one.weighting, one.residual).count(False) for one in settings]
    assert lacking == [0, 1, 1, 1]
    assert np.abs(made["vae3"] - made["vae3 no blending"]).mean() > 1
    assert np.abs(made["vae3"] - made["vae3 no texture"]).mean() > 0


def test_what_a_search_found_is_not_taken_for_another_case(searched, case):
    full, ablated, settings = searched
    full["vae3"](case)
    ablated["vae3 no blending"](replace(case))
    assert len(settings) == 2


def test_two_models_of_one_name_are_refused(data, searched, tmp_path):
    model = SimpleNamespace(name="vae3", folder=tmp_path, template=lambda: data.template, network=lambda device: None)
    with pytest.raises(InputError, match="Two models are called 'vae3'"):
        models.model_fills([model, model], data.template, Settings())


def test_ablations_are_run_in_squares_unless_other_holes_are_named(options, searched, monkeypatch, data):
    full, ablated, _ = searched
    given = []
    monkeypatch.setattr(compare, "model_fills", lambda *arguments: (full, ablated))
    monkeypatch.setattr(compare, "compare", lambda plan, fills, *more: given.append(fills))
    for more in ([], ["--ablations", "ellipsoid8"], ["--ablations", "none"]):
        compare.run(options("--holes", "square25,ellipsoid8", *more))
    counts = [{kind: len(fills) for kind, fills in each.items()} for each in given]
    assert counts == [
        {"square25": 12, "ellipsoid8": 6},
        {"square25": 6, "ellipsoid8": 12},
        {"square25": 6, "ellipsoid8": 6},
    ]


def test_scans_of_one_name_in_two_folders_are_two_cases(data, scan_file, baselines, tmp_path):
    other = tmp_path / "elsewhere" / scan_file.name
    other.parent.mkdir()
    other.write_bytes(scan_file.read_bytes())
    plan = {path: [("square25", 0)] for path in (scan_file, other)}
    compare.compare(plan, {"square25": {"harmonic": baselines["harmonic"]}}, data.template, None, 0, tmp_path)
    rows = read_rows(tmp_path / "cases.csv")
    assert [row.case for row in rows] == ["group_sub-5_T1w_square25_0", "elsewhere_sub-5_T1w_square25_0"]
    assert rows[0].psnr == rows[1].psnr
    assert len(list((tmp_path / "views").iterdir())) == 2


def test_a_hole_names_the_lesion_it_was_cut_with(subject, hole, case, baselines):
    named = Hole("lesions", 2, "patient07_consensus", hole.voxels)
    made, _ = measure_fill(subject, named, case, "harmonic", baselines["harmonic"], 0.0)
    assert (made.kind, made.index, made.shape, made.fill) == ("lesions", 2, "patient07_consensus", "harmonic")
    assert made.case == "group_sub-5_T1w_lesions_2"
