"""The study of what filling does for tissue classes and registration, and the tools that it uses."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.command.main import main
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation import downstream
from MedInpaintLib.evaluation.downstream import HEALTHY, UNFILLED, Brain, measure_follow_up, stamp_lesions, versions
from MedInpaintLib.evaluation.measures import deformable
from MedInpaintLib.evaluation.measures.deformable import deformed, displacements, random_deformation, register_demons
from MedInpaintLib.evaluation.measures.deformable import registration_error as error_of
from MedInpaintLib.evaluation.measures.tissue import CSF, GM, TISSUES, WM, bias_field, classify
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.alignment import Alignment
from MedInpaintLib.volumes.image import like, with_voxels
from scipy import ndimage
from synthetic import rotation, volume

INTENSITIES = np.array([0, 300, 900, 1500])  # outside, CSF, GM, WM
SIDE = 40  # voxels of 2 mm


def phantom():
    """Labels of folded shells: CSF about GM about WM, and a ventricle: uint8 (z, y, x)."""
    z, y, x = np.indices((SIDE, SIDE, SIDE)) - (SIDE - 1) / 2
    folds = 1.5 * np.sin(z / 2) * np.sin(y / 2) * np.sin(x / 2)
    depth = np.sqrt(z**2 + y**2 + x**2)
    labels = np.select([depth < 3, depth + folds < 11, depth + folds < 15, depth < 18], [CSF, WM, GM, CSF], 0)
    return labels.astype(np.uint8)


def noisy(labels, sd, seed=0):
    noise = np.random.default_rng(seed).normal(0, sd, labels.shape)
    return np.where(labels > 0, np.maximum(INTENSITIES[labels] + noise, 1), 0).astype(np.float32)


def scan_of(values, **geometry):
    return volume(values, spacing=(2.0, 2.0, 2.0), **geometry)


def textured(**geometry):
    """A synthetic scan with structure everywhere in its brain, and the brain."""
    brain = phantom() > 0
    texture = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(brain.shape), 1.5)
    return scan_of((brain * (1000 + 250 * texture / texture.std())).astype(np.float32), **geometry), brain


def brain_of(labels, lesions, values=None):
    """A brain that lies in model space as it is."""
    mask = labels > 0
    values = noisy(labels, 40) if values is None else values
    flat = np.ones(labels.shape, np.float32)
    alignment = Alignment(sitk.AffineTransform(3), mask, 1.0, True)
    return Brain("synthetic", scan_of(values), lesions, alignment, mask, flat, classify(values, mask))


@pytest.fixture
def lesions():
    """A ball in the white matter."""
    z, y, x = np.indices((SIDE, SIDE, SIDE))
    return (z - 20) ** 2 + (y - 20) ** 2 + (x - 26.5) ** 2 < 3**2


# --- tissue classes


@pytest.mark.parametrize("sd", [40, 150])
def test_three_tissues_with_noise_are_classified(sd):
    labels = phantom()
    found = classify(noisy(labels, sd), labels > 0)
    assert (found.labels == labels)[labels > 0].mean() > 0.98
    assert not found.labels[labels == 0].any()
    assert found.means == pytest.approx(INTENSITIES[1:], rel=0.03)


def test_the_markov_random_field_removes_isolated_mislabels():
    labels = phantom()
    inside, values = labels > 0, noisy(labels, 150)

    def isolated(found):
        same = sum(np.roll(found, step, axis) == found for axis in range(3) for step in (-1, 1))
        return np.count_nonzero(inside & (same == 0))

    plain, prior = (classify(values, inside, weight).labels for weight in (0.0, 0.5))
    assert isolated(plain) > 100
    assert isolated(prior) < 0.15 * isolated(plain)
    assert (prior != labels)[inside].mean() < 0.5 * (plain != labels)[inside].mean()


def test_what_is_brighter_than_white_matter_is_not_taken_for_csf():
    labels = phantom()
    values = noisy(labels, 40)
    values[20, 20, 25:28] = 6000  # a vessel
    assert (classify(values, labels > 0).labels[20, 20, 25:28] == WM).all()


def test_the_classes_depend_neither_on_the_run_nor_on_the_intensities_unit():
    labels = phantom()
    values = noisy(labels, 150)
    first, again, other = (classify(each, labels > 0) for each in (values, values.copy(), 0.25 * values))
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.means, again.means)
    assert np.array_equal(first.labels, other.labels)


def test_shares_and_volumes_add_up(lesions):
    tissue = classify(noisy(phantom(), 40), phantom() > 0)
    assert sum(tissue.shares(lesions).values()) == pytest.approx(1)
    assert tissue.shares(lesions)["WM"] > 0.98
    assert sum(tissue.volumes(0.008).values()) == pytest.approx(0.008 * np.count_nonzero(phantom()))


@pytest.mark.parametrize(
    ("values", "brain", "message"),
    [(noisy(phantom(), 40), np.zeros((SIDE,) * 3, bool), "no brain"), (np.ones((SIDE,) * 3), phantom() > 0, "tissues")],
)
def test_what_cannot_be_classified_is_refused(values, brain, message):
    with pytest.raises(InputError, match=message):
        classify(values, brain)


def test_a_bias_field_is_found_without_the_lesions(lesions):
    labels = phantom()
    shade = (1 + 0.3 * np.linspace(-1, 1, SIDE))[:, None, None]
    values = noisy(labels, 40) * shade.astype(np.float32)
    dark = np.where(lesions, 5, values).astype(np.float32)
    tissue = (labels > 0) & ~lesions
    field, without = (bias_field(scan_of(each), tissue) for each in (values, dark))
    assert np.array_equal(field, without)
    white = labels == WM
    assert np.std((values / field)[white] / np.mean((values / field)[white])) < 0.5 * np.std(
        values[white] / np.mean(values[white])
    )


# --- registration


def test_the_known_deformation_has_its_length_never_folds_and_depends_on_the_seed():
    scan, brain = textured()
    known, again, other = (random_deformation(scan, brain, seed) for seed in (0, 0, 1))
    field = displacements(known, scan)
    assert np.linalg.norm(field[brain], axis=-1).mean() == pytest.approx(4)
    assert np.array_equal(field, displacements(again, scan))
    assert np.abs(field - displacements(other, scan)).max() > 1
    jacobian = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(known.GetDisplacementField()))
    assert jacobian[brain].min() > 0.3


@pytest.mark.parametrize("direction", [np.eye(3), rotation(25) @ np.diag([-1, 1, 1])], ids=["straight", "oblique"])
def test_demons_recover_a_known_deformation(direction):
    scan, brain = textured(direction=direction)
    known = random_deformation(scan, brain, seed=0)
    inner = ndimage.binary_erosion(brain, iterations=3)
    fixed = deformed(scan, known)
    before = error_of(sitk.Transform(), known, scan, {"inner": inner})["inner"]
    after = error_of(register_demons(fixed, scan), known, scan, {"inner": inner})["inner"]
    assert before > 3
    assert after < 0.5


def test_demons_recover_a_translation_and_give_the_same_again():
    scan, brain = textured()
    known = sitk.TranslationTransform(3, (2.5, -1.5, 1.0))
    fixed = deformed(scan, known)
    found, again = (register_demons(fixed, scan) for _ in range(2))
    inner = {"inner": ndimage.binary_erosion(brain, iterations=3)}
    assert error_of(found, known, scan, inner)["inner"] < 0.3
    assert np.array_equal(displacements(found, scan), displacements(again, scan))


# --- the study


def test_a_healthy_scan_gets_the_patients_lesions_and_nothing_else_changes(lesions):
    labels = phantom()
    dark = np.where(lesions, 1000, noisy(labels, 40)).astype(np.float32)
    patient, healthy = brain_of(labels, lesions, dark), brain_of(labels, np.zeros_like(lesions), 2 * noisy(labels, 40))
    before, given = sitk.GetArrayFromImage(healthy.scan), stamp_lesions(healthy, patient)
    after = sitk.GetArrayFromImage(given.scan)
    assert np.array_equal(given.lesions, lesions)
    assert np.array_equal(before[~lesions], after[~lesions])
    # 1000 is a sixth of the way from GM to WM; in the healthy scan this is 2000. At the border it is mixed with WM.
    core = ndimage.binary_erosion(lesions)
    assert after[core] == pytest.approx(2000, rel=0.05)
    assert (after <= before)[lesions].all()


def test_lesions_that_miss_the_brain_are_refused(lesions):
    labels = phantom()
    healthy = brain_of(np.where(lesions, 0, labels).astype(np.uint8), np.zeros_like(lesions))
    with pytest.raises(InputError, match="miss the brain"):
        stamp_lesions(healthy, brain_of(labels, lesions))


def test_a_lesion_impairs_classes_and_registration_and_a_perfect_fill_restores_them(lesions):
    labels = phantom()
    scan, _ = textured()
    values = np.where(labels > 0, noisy(labels, 40) + 0.2 * sitk.GetArrayFromImage(scan), 0).astype(np.float32)
    brain = brain_of(labels, lesions, values)
    count = np.count_nonzero(lesions)
    images = {HEALTHY: brain.scan, UNFILLED: with_voxels(brain.scan, np.full(count, 400.0), lesions)}
    images["right"] = with_voxels(images[UNFILLED], values[lesions], lesions)
    tissues = downstream.classes(images, brain)
    healthy, unfilled, right = measure_follow_up(brain, "patient", images, tissues, seed=0)
    assert (healthy.same, healthy.white, healthy.grey) == (1, 1, None)
    assert set(healthy.volume_errors.values()) == {0}
    assert unfilled.white < 0.05
    assert unfilled.volume_errors["WM"] == pytest.approx(-0.008 * count, rel=0.1)
    assert unfilled.registration["lesions"] > 1.3 * healthy.registration["lesions"]
    assert right.same == 1
    assert right.registration == healthy.registration


def test_every_version_differs_from_the_scan_in_the_lesions_alone(lesions, monkeypatch):
    labels = phantom()
    scan = scan_of(np.where(lesions, 500, noisy(labels, 40)).astype(np.int16))

    grown_by = []

    def fill(image, mask, settings):
        grown_by.append(settings.grow)
        return SimpleNamespace(image=with_voxels(image, np.full(np.count_nonzero(lesions), 1500.0), lesions))

    monkeypatch.setattr(downstream, "inpaint", fill)
    monkeypatch.setattr(downstream, "GROWTH", 2.0)
    images = versions(scan, lesions, Settings())
    original = sitk.GetArrayFromImage(scan)
    enlarge = ", lesions enlarged by 2 mm"
    assert list(images) == [UNFILLED, "MedInpaint", "harmonic", "MedInpaint" + enlarge, "harmonic" + enlarge]
    assert grown_by == [0, 2]
    for name in (UNFILLED, "MedInpaint", "harmonic"):
        assert np.array_equal(sitk.GetArrayFromImage(images[name])[~lesions], original[~lesions])
    changed = sitk.GetArrayFromImage(images["harmonic" + enlarge]) != original
    rim = ndimage.distance_transform_edt(~lesions, sampling=scan.GetSpacing()[::-1]) <= 2
    assert (changed & ~lesions).any()
    assert not (changed & ~rim).any()
    assert sitk.GetArrayFromImage(images["harmonic"])[lesions].mean() == pytest.approx(1500, rel=0.03)


def test_the_command_writes_a_section_its_figures_and_small_pictures(lesions, tmp_path, monkeypatch, capsys):
    labels, none = phantom(), np.zeros_like(lesions)
    patient = brain_of(labels, lesions, np.where(lesions, 800, noisy(labels, 40)).astype(np.float32))
    sitk.WriteImage(patient.scan, str(tmp_path / "patient.nii.gz"))
    sitk.WriteImage(like(patient.scan, lesions.astype(np.uint8)), str(tmp_path / "mask.nii.gz"))
    sitk.WriteImage(brain_of(labels, none, noisy(labels, 40, seed=1)).scan, str(tmp_path / "healthy.nii.gz"))

    def fill(image, mask, settings):
        hole = sitk.GetArrayFromImage(mask) > 0
        return SimpleNamespace(image=with_voxels(image, np.full(np.count_nonzero(hole), 1500.0), hole))

    monkeypatch.setattr(downstream, "inpaint", fill)
    monkeypatch.setattr(downstream, "align", lambda *given: patient.alignment)
    monkeypatch.setattr(deformable, "ITERATIONS", 1)
    given = ["--scans", "patient", "--lesion-masks", "mask", "--healthy", "healthy"]
    files = [name if name.startswith("--") else str(tmp_path / f"{name}.nii.gz") for name in given]
    folder = tmp_path / "out"
    assert main(["downstream", *files, "--output", str(folder)]) == 0

    figures = json.loads((folder / "downstream.json").read_text(encoding="utf-8"))
    first, filled, *others = figures["patients"]
    assert len(others) == 3
    assert (first["version"], filled["version"]) == ("unfilled", "MedInpaint")
    assert first["shares"]["GM"] > 0.95
    assert filled["shares"]["WM"] > 0.95
    follow_ups = {row["version"]: row for row in figures["follow_ups"]}
    assert follow_ups["no lesions"]["same"] == 1
    assert follow_ups["unfilled"]["white"] < 0.5 < 0.95 < follow_ups["MedInpaint"]["white"]
    section = (folder / "downstream.md").read_text(encoding="utf-8")
    assert all(f"{name} of the brain, ml" in section for name in TISSUES)
    assert "| unfilled |" in capsys.readouterr().out
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) == 2
    assert all(path.stat().st_size < 150_000 and f"]({path.name})" in section for path in pictures)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scans", "a.nii", "b.nii", "--lesion-masks", "m.nii"], "give one mask for each scan"),
        (["--scans", "a.nii", "--lesion-masks", "m.nii", "--healthy", "x/a.nii"], "same file name"),
        (["--scans", "a.nii", "--lesion-masks", "m.nii"], "does not exist"),
    ],
)
def test_wrong_input_is_reported_in_one_sentence(options, message, tmp_path, capsys):
    assert main(["downstream", *options, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
