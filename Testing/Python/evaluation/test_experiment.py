"""The report is right for all combinations of models, holes and groups, and its pictures show what was stored."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.evaluation.experiment import write_report
from MedInpaintLib.evaluation.figures import galleries, worst
from MedInpaintLib.evaluation.figures.results import Results
from MedInpaintLib.evaluation.figures.views import TRUTH, read_view, view_of, view_path, voxels_path
from MedInpaintLib.evaluation.fills.models import takes_part
from MedInpaintLib.evaluation.holes.cases import Hole
from MedInpaintLib.evaluation.holes.subjects import Subject
from rows import row
from synthetic import volume

SHAPE = (4, 24, 20)
BASELINES = ("harmonic", "telea")
KINDS = ("square12", "square25", "lesions", "ellipsoid20")
PARTS = ("no prior", "unweighted", "no blending")


def card(kind, kernel, epochs=10, minutes=20.0):
    losses = {"vae": ("reconstruction", "divergence"), "gan": ("generator", "discriminator")}[kind]
    return {
        "kind": kind, "kernel": kernel, "latent": 100, "epochs": epochs, "training_minutes": minutes, "device": "cpu",
        "grid": {"size": [96, 128, 104]}, "data": {"name": "some brains"},
        "history": [{"epoch": n + 1, **dict.fromkeys(losses, 1.0 / (n + 1))} for n in range(3)],
    }  # fmt: skip


LINEAR = {**card("gan", None, 0, 0), "kind": "linear", "history": []}
CARDS = {"gan3": card("gan", 3, 20, 80.0), "vae3": card("vae", 3), "linear": LINEAR}


@pytest.fixture(scope="module")
def scene():
    """A scan of integers, stored with its axes flipped and swapped, and a hole in it."""
    values = np.random.default_rng(0).integers(100, 200, SHAPE).astype(np.int16)
    scan = volume(values, np.array([[0, -1, 0], [-1, 0, 0], [0, 0, 1]]))
    hole = np.zeros(SHAPE, bool)
    hole[2, 8:14, 6:12] = True
    hole[1, 9:12, 7:9] = True
    return Subject("g", "s", scan, None, np.ones(SHAPE, bool)), Hole("lesions", 0, "", hole, hole)


def finished(folder, scene, fills, kinds=KINDS, cards=CARDS, groups=("one", "two")):
    """Results in which fill number n has the value n everywhere in the hole; the study's fills are in squares alone."""
    for name in ("fills", "views"):
        (folder / name).mkdir(exist_ok=True)
    rows = []
    for number, fill in enumerate(fills):
        for group in groups:
            for kind in kinds:
                for index in range(3 if takes_part(fill, kind, True) else 0):
                    rows.append(
                        row(group=group, kind=kind, index=index, fill=fill, psnr=20.0 + index + number, ssim=0.5,
                            slice_psnr=30.0 + index if kind.startswith("square") else float("nan"))
                    )  # fmt: skip
    view = view_of(*scene)
    for case in {each.case for each in rows}:
        view.save(view_path(folder, case))
        np.save(voxels_path(folder, case, TRUTH), sitk.GetArrayFromImage(scene[0].scan)[scene[1].voxels])
    for each in rows:
        voxels = np.full(scene[1].voxels.sum(), fills.index(each.fill), np.int16)
        np.save(voxels_path(folder, each.case, each.fill), voxels)
    models = []
    for name, model_card in cards.items():
        (folder / name).mkdir()
        (folder / name / "weights.pt").write_bytes(b"0" * 2_000_000)
        grid = np.random.default_rng(0).integers(0, 255, (60, 90), dtype=np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(grid), str(folder / name / "samples.png"))
        models.append(SimpleNamespace(name=name, card=model_card, folder=folder / name))
    return Results(folder, rows, models)


def report(run, folder, downstream=None):
    write_report(run, ["medinpaint evaluate"], folder, downstream)
    text = (folder / "Experiment.md").read_text(encoding="utf-8")
    for shown in re.findall(r"!\[.*\]\((.*)\)", text):
        assert 1000 < (folder / shown).stat().st_size < 400_000
    return text


@pytest.fixture(scope="module")
def full_report(tmp_path_factory, scene):
    """The text of the report with all models, their ablations and the section of a downstream study; its folder."""
    folder = tmp_path_factory.mktemp("experiment")
    study = folder / "study"
    study.mkdir()
    (study / "downstream.md").write_text("## Tools\n\n![Classes](downstream_p.png)\n")
    (study / "downstream_p.png").write_bytes(b"x" * 2000)
    names = [f"{name}{study}" for study in ("", " study") for name in CARDS]
    run = finished(folder, scene, [*BASELINES, *names, *(f"{name} {part}" for name in names for part in PARTS)])
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(worst, "WORST", 2)
        return report(run, folder / "report", study), folder / "report"


def test_every_figure_table_and_claim_is_there_with_all_models(full_report):
    text, _ = full_report
    shown = re.findall(r"\(Figures/(.*)\.png\)", text)
    assert shown == [
        "downstream_p",
        "experiment_square", "experiment_lesions", "experiment_ellipsoid", "experiment_ablations_squares",
        "experiment_ablations_volumes", "experiment_sizes_one", "experiment_sizes_two",
        "experiment_worst_1", "experiment_worst_2", "experiment_samples", "experiment_training",
    ]  # fmt: skip
    assert "| GAN 3 | 26.93, 19.38, 21.85 | 22.72 | 31.00 (n = 12) | 31.00 (n = 3) |" in text
    assert "| GAN 7 | 26.85, 23.40, 22.22 | 24.16 | - | - |" in text
    assert "1.25 dB" in text  # of 128 x 96 pixels against 96 x 96
    assert "| linear study | - | - | 31.00 (n = 12) | 31.00 (n = 3) |" in text
    assert "| claim | squares, as the study fills | volumes, whole models |" in text
    assert "| VAEs beat GANs | **not decided** | **not decided** |" in text  # two subjects
    assert "| Networks beat the linear model | gan3 study - linear study | PSNR | 2 | 12 | -2.00 dB | 12 |" in text
    assert "| Networks beat the linear model | vae3 - linear | PSNR | 2 | 12 | -1.00 dB | 12 |" in text
    assert "**holds** for vae3 and gan3 (10 epochs of 2.0 min against 20 of 4.0 min)" in text
    assert "### two, ellipsoid20" in text


def test_the_section_of_the_downstream_study_is_in_the_report_with_its_pictures(full_report):
    text, folder = full_report
    assert "## Tools\n\n![Classes](Figures/downstream_p.png)" in text
    assert (folder / "Figures" / "downstream_p.png").stat().st_size == 2000


def test_the_best_median_is_bold(full_report):
    text, _ = full_report
    assert "| linear study | **28.00** / **0.500** |" in text  # 20 + 1 of the median case + 7 of the fill
    assert "| harmonic | 21.00 / **0.500** |" in text
    assert "| **25.00** / **0.500** | **25.00** / **0.500** |" in text  # of the whole linear model in volumes


@pytest.mark.parametrize(
    ("cards", "kinds"),
    [
        ({}, ("square12", "square25")),
        ({"vae3": CARDS["vae3"]}, ("lesions",)),
        ({"gan3": CARDS["gan3"]}, ("square25", "ellipsoid8")),
        ({"linear": LINEAR}, ("square25", "ellipsoid8")),
    ],
)
def test_the_report_is_right_with_fewer_models_and_holes(tmp_path, scene, cards, kinds):
    text = report(finished(tmp_path, scene, [*BASELINES, *cards], kinds, cards), tmp_path / "report")
    assert "| VAEs beat GANs | **not tested** | **not tested** |" in text
    assert "nan" not in text
    assert ("## Comparison with the study" in text) == (bool(cards) and "square25" in kinds)
    assert ("experiment_training" in text) == (bool(cards) and LINEAR not in cards.values())


def test_the_typical_case_has_the_median_of_the_models_mean(tmp_path, scene):
    run = finished(tmp_path, scene, [*BASELINES, "vae3"], cards={"vae3": CARDS["vae3"]}, groups=("one",))
    assert {row.index for row in run.typical("lesions").values()} == {1}


def test_the_row_of_a_square_is_the_studys_and_that_of_a_volume_has_whole_models_beside_peers(
    tmp_path, scene, monkeypatch
):
    drawn = {}
    monkeypatch.setattr(galleries, "draw_gallery", lambda run, lines, path, **_: drawn.update({path.stem: lines}))
    names = [f"{name}{study}" for name in CARDS for study in ("", " study")]
    galleries.model_figures(finished(tmp_path, scene, [*BASELINES, *names], ("square25", "lesions")), tmp_path)
    shown = {name: [fills for _, fills in lines] for name, lines in drawn.items()}
    assert shown == {
        "experiment_square": [["gan3 study", "vae3 study", "linear study"]],
        "experiment_lesions": [["harmonic", "gan3", "vae3", "linear"]],
    }


def test_a_view_shows_the_axial_slice_with_most_of_the_hole_the_front_at_the_top(scene, tmp_path):
    subject, hole = scene
    view = view_of(subject, hole)
    view.save(tmp_path / "view.npz")
    view = read_view(tmp_path / "view.npz")
    upright = sitk.GetArrayFromImage(sitk.DICOMOrient(subject.scan, "LPS"))[2]
    assert upright.shape == (20, 24)
    assert np.array_equal(view.truth, upright)
    assert view.hole.sum() == 36
    values = sitk.GetArrayFromImage(subject.scan)
    assert np.array_equal(view.filled(values[hole.voxels]), upright)
    assert np.array_equal(view.filled(values[hole.voxels] + 5) - upright, 5 * view.hole)
    assert (view.masked()[view.hole] == view.white).all()


def test_a_close_up_contains_the_largest_piece_of_the_hole_and_stays_in_the_slice(scene):
    subject, hole = scene
    voxels = hole.voxels.copy()
    voxels[2, 23, 19] = True
    view = view_of(subject, Hole("lesions", 0, "", voxels, voxels))
    rows, columns = view.close_up()
    near = np.zeros_like(view.hole)
    near[rows, columns] = True
    assert view.hole[near].sum() >= 36
    assert rows.stop <= 20
    assert columns.stop <= 24


# The worst cases


def error_of(fill, truth):
    return worst.error(np.asarray(fill), np.asarray(truth), 200.0)


def test_brightness_contrast_and_structure_add_up_to_the_mean_squared_error():
    random = np.random.default_rng(0)
    truth = random.integers(50, 200, 500).astype(np.int16)
    for fill in (0.4 * truth + random.normal(20, 30, 500), np.full(500, 90), 250 - truth, truth):
        squared = ((fill / 2 - truth / 2) ** 2).mean()  # in percent of a range of 200
        assert sum(error_of(fill, truth).parts) == pytest.approx(squared, abs=1e-9)


def test_the_reason_names_the_part_in_which_a_fill_does_worst_with_its_numbers():
    truth = np.array([80.0, 120.0] * 10)
    perfect, flat = error_of(truth, truth), error_of(np.full(20, 98.0), truth)
    assert worst.reason(error_of(truth - 30, truth), flat) == (
        "on average it is too dark by 15.0 % of the range, the harmonic fill too dark by 1.0 %"
    )
    assert worst.reason(error_of(3 * truth - 200, truth), perfect) == (
        "it varies more than the brain, by 30.0 instead of 10.0 % of the range; the harmonic fill varies by 10.0 %"
    )
    assert worst.reason(flat, perfect).startswith("it varies less than the brain, by 0.0 instead of 10.0 %")
    assert worst.reason(error_of(200 - truth, truth), flat) == (
        "more of its structure is in the wrong place: it varies by 10.0 % of the range, with a correlation with the "
        "truth of -1.00; the harmonic fill varies by 0.0 %, with 0.00"
    )
    assert worst.reason(perfect, perfect) == "the harmonic fill is close to the truth: its error is 0.0 % of the range"


def test_the_worst_cases_are_those_of_the_smallest_gain_with_a_true_sentence_each(tmp_path, scene):
    folder, kinds = tmp_path / "run", ("square25", "lesions-tight", "ellipsoid20")
    folder.mkdir()
    run = finished(folder, scene, ["harmonic", "linear"], kinds, {"linear": LINEAR}, ("one",))
    gains = {("lesions-tight", 1): -2.5, ("ellipsoid20", 2): 0.25}  # dB
    rows = [
        replace(each, psnr=20.0 + (gains.get((each.kind, each.index), 3.0) if each.fill == "linear" else 0.0))
        for each in run.rows
    ]
    run = replace(run, rows=rows)
    truth = run.truth(rows[0])
    for each in rows:
        shift = {"harmonic": 2, "linear": -40}[each.fill]
        np.save(voxels_path(folder, each.case, each.fill), truth + np.int16(shift))
    figures = worst.worst_figures(run, tmp_path)
    assert len(figures) == 6  # no square
    dark, bright = (100 * shift / view_of(*scene).white for shift in (40, 2))
    why = f"on average it is too dark by {dark:.1f} % of the range, the harmonic fill too bright by {bright:.1f} %"
    tight, ellipsoid = (caption for _, caption in figures[:2])
    assert tight.startswith("Worst case 1 of linear, real lesion shapes (one s, ")
    assert tight.endswith(
        "whose mask leaves the dark border of the lesion outside: 2.50 dB below the harmonic fill, because " + why
    )
    assert ellipsoid.startswith("Worst case 2 of linear, a lumpy ellipsoid of 20 mm (one s, ")
    assert ellipsoid.endswith("ml): only 0.25 dB above the harmonic fill, because " + why)
    assert all((tmp_path / name).stat().st_size > 1000 for name, _ in figures)
