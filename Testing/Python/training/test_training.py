"""The training: its parts against closed forms, and a small run that learns, stops, and goes on as if it had not."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib.errors import InputError
from MedInpaintLib.models.linear import LinearPath
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.space.slices import NEIGHBOURS
from MedInpaintLib.space.template import Template
from MedInpaintLib.training import gan, validation
from MedInpaintLib.training import trainer as trainers
from MedInpaintLib.training.augment import augment, move_randomly, random_holes
from MedInpaintLib.training.fitting import fit_latents, remove_directions
from MedInpaintLib.training.gan import GANSettings, GANTrainer
from MedInpaintLib.training.slices import template as templates
from MedInpaintLib.training.slices.data import LEVELS, SliceData, load, save
from MedInpaintLib.training.slices.shape import mean_and_differences, to_common_shape
from MedInpaintLib.training.trainer import own_latent_directions, train, usable_slices
from MedInpaintLib.training.vae import VAESettings, VAETrainer
from synthetic import rotation, volume

HEIGHT, SIZE = 48, (48, 32)
SETTINGS = VAESettings(epochs=2, batch=16, learning_rate=0.1)  # few steps: a warm-up
KINDS = {  # trainer and settings by kind of model
    "vae": (VAETrainer, SETTINGS),
    "gan": (GANTrainer, GANSettings(epochs=2, batch=16, learning_rate=0.01)),
}
CPU = torch.device("cpu")
SPACING = (3.0, 3.0, 3.0)


def made_brains(subjects=5, seed=0):
    """Model-space ellipsoids with waves that differ from subject to subject, (subjects, z, h, w)."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (HEIGHT, *SIZE)), indexing="ij")
    brain = (z / 0.9) ** 2 + (y / 0.85) ** 2 + (x / 0.85) ** 2 < 1
    waves = [np.sin(3 * x + 2 * z), np.cos(4 * y), np.sin(5 * y * x), np.cos(3 * x * z)]
    weights = rng.normal(0, 0.07, (subjects, len(waves)))
    images = (0.65 + np.tensordot(weights, waves, 1)) * brain
    return np.clip(np.round(images * LEVELS), 0, 255).astype(np.uint8), brain


@pytest.fixture(scope="module")
def data():
    slices, brain = made_brains()
    grid = {"spacing": SPACING, "origin": (-46.5, -70.5, -70.5)}
    image = slices.mean(axis=0).astype(np.float32) / LEVELS
    template = Template(volume(image, **grid), volume(brain.astype(np.uint8), **grid))
    source = {"name": "waves", "licence": "CC0", "citation": "none"}
    return SliceData(slices, [f"brain-{i}" for i in range(5)], np.array([0, 0, 1, 0, 0], bool), template, source)


# The template


def test_a_matrix_says_the_same_as_its_transform_whatever_the_centre():
    transform = sitk.AffineTransform(3)
    transform.SetCenter((10.0, -20.0, 30.0))
    transform.SetMatrix((rotation(20) * 1.1).ravel().tolist())
    transform.SetTranslation((3.0, 2.0, -1.0))
    matrix = templates.to_matrix(transform)
    back = templates.to_transform(matrix)
    for point in ((0.0, 0.0, 0.0), (50.0, -3.0, 7.0)):
        assert back.TransformPoint(point) == pytest.approx(transform.TransformPoint(point))
        assert matrix @ [*point, 1] == pytest.approx([*transform.TransformPoint(point), 1])
    np.testing.assert_allclose(templates.to_matrix(back), matrix, atol=1e-12)


def test_fits_are_taken_relative_to_their_mean_pose_and_size():
    fits = []
    for turn, scale in ((10, 1.1), (-10, 1.1), (10, 1.2), (-10, 1.2)):
        matrix = np.eye(4)
        matrix[:3, :3] = scale * rotation(turn)
        matrix[:3, 3] = (5.0, 0.0, turn)
        fits.append(matrix)
    common = [templates._common(matrix, fits) for matrix in fits]
    np.testing.assert_allclose(np.mean(common, axis=0)[:3, :3], np.eye(3), atol=1e-12)
    # From one scan to another it is the same way as before.
    np.testing.assert_allclose(common[0] @ np.linalg.inv(common[2]), fits[0] @ np.linalg.inv(fits[2]), atol=1e-9)


def test_the_model_grid_is_centred_on_the_origin():
    grid = templates.model_grid()
    middle = grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in grid.GetSize()])
    assert middle == pytest.approx((0, 0, 0))
    assert all(n % 16 == 0 for n in grid.GetSize()[:2])  # what the networks need


def test_a_tilted_brain_is_turned_into_its_own_midplane():
    shipped = find_model("vae3").template()
    tilt = sitk.Euler3DTransform()
    tilt.SetRotation(0.0, np.deg2rad(4), np.deg2rad(6))
    tilt.SetTranslation((4.0, 0.0, 0.0))
    image, brain = (
        sitk.GetArrayFromImage(sitk.Resample(sitk.Cast(part, sitk.sitkFloat32), part, tilt, sitk.sitkLinear, 0.0))
        for part in (shipped.image, shipped.brain)
    )
    average, share = templates._symmetric(image, brain)
    np.testing.assert_array_equal(average, average[..., ::-1])
    np.testing.assert_array_equal(share, share[..., ::-1])

    def mirrored(array):
        return np.corrcoef(array.ravel(), array[..., ::-1].ravel())[0, 1]

    assert mirrored(image) < 0.9
    # Averaging two halves that do not match would blur: contrast within the brain is kept.
    inside = sitk.GetArrayFromImage(shipped.brain) > 0
    assert average[inside].std() > 0.9 * sitk.GetArrayFromImage(shipped.image)[inside].std()


# The slice file


def test_a_slice_file_comes_back_as_it_was_saved(data, tmp_path):
    save(data, tmp_path / "slices.npz")
    back = load(tmp_path / "slices.npz")
    np.testing.assert_array_equal(back.slices, data.slices)
    np.testing.assert_array_equal(back.tuning, data.tuning)
    assert (back.subjects, back.source) == (data.subjects, data.source)
    for ours, theirs in ((data.template.image, back.template.image), (data.template.brain, back.template.brain)):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
        assert ours.GetSpacing() == theirs.GetSpacing()
        assert ours.GetOrigin() == theirs.GetOrigin()
        assert ours.GetPixelID() == theirs.GetPixelID()


def test_tuning_subjects_are_kept_apart(data):
    assert data.names(tuning=True) == ["brain-2"]
    assert data.names(tuning=False) == ["brain-0", "brain-1", "brain-3", "brain-4"]
    np.testing.assert_allclose(data.brains(tuning=True)[0] * LEVELS, data.slices[2], rtol=1e-6)
    assert len(data.brains(tuning=False)) == 4


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


def test_slices_with_next_to_no_brain_are_not_trained_on(data):
    slices, heights, subjects = usable_slices(data.slices)
    assert sorted(set(subjects.tolist())) == list(range(len(data.slices)))
    share = (data.slices > 0).mean(axis=(2, 3))
    assert len(slices) == len(heights) == (share > 0.02).sum()
    assert ((slices > 0).float().mean(dim=(1, 2)) > 0.02).all()
    index = (heights * (HEIGHT - 1)).round().long().numpy()
    assert set(index) == set(np.flatnonzero((share > 0.02).any(axis=0)))


# What a batch goes through


def lopsided(n):
    """A bright block on the left, a mid-grey one on the right."""
    image = torch.zeros(n, 1, *SIZE)
    image[..., 12:36, 6:14] = 0.8
    image[..., 12:36, 18:26] = 0.4
    return image


def test_augmentation_flips_about_half_and_moves_and_scales_a_little():
    changed = augment(lopsided(400), torch.Generator().manual_seed(0))
    assert changed.shape == (400, 1, *SIZE)
    left, right = (changed[..., part].mean(dim=(1, 2, 3)) for part in (slice(0, 16), slice(16, 32)))
    assert 0.4 < (left < right).float().mean() < 0.6
    assert ((left / right > 1.4) | (right / left > 1.4)).all()
    peak = changed.flatten(1).amax(dim=1)
    assert peak.max() <= 1.08 * 0.8**0.88 + 1e-3
    assert peak.min() >= 0.92 * 0.8**1.12 - 0.02
    assert peak.std() > 0.02
    mass = changed.clamp(max=1).sum(dim=(1, 2, 3)) / lopsided(1).sum()
    assert mass.min() > 0.75
    assert mass.max() < 1.3


def test_no_augmentation_moves_the_brain_out_of_the_slice():
    changed = augment(lopsided(200), torch.Generator().manual_seed(1))
    rows = torch.arange(SIZE[0]).view(1, 1, -1, 1)
    columns = torch.arange(SIZE[1]).view(1, 1, 1, -1)
    body = (changed > 0.1).float()
    middle = [(body * index).sum(dim=(1, 2, 3)) / body.sum(dim=(1, 2, 3)) for index in (rows, columns)]
    for axis, (found, length) in enumerate(zip(middle, SIZE, strict=True)):
        assert (found - (length - 1) / 2).abs().max() < 0.05 * length, axis
        assert found.std() > 0.1


def test_augmentation_bends_what_is_straight():
    rows = torch.arange(128.0).view(1, 1, -1, 1)
    ramp = (rows / 128).expand(50, 1, 128, 96)
    changed = augment(ramp, torch.Generator().manual_seed(0))[..., 24:104, 20:76]
    line = changed.mean(dim=-1, keepdim=True) + (changed - changed.mean(dim=-1, keepdim=True)).mean(
        dim=-2, keepdim=True
    )
    bend = (changed - line).flatten(1).std(dim=1) * 128  # pixels: what neither a shift nor a rotation explains
    assert 0.3 < bend.median() < 1.5


def test_the_channels_of_a_slice_move_alike_and_keep_their_intensities():
    image = lopsided(20)
    first, second = move_randomly(torch.cat([image, 0.5 * image], dim=1), torch.Generator().manual_seed(0)).split(
        1, dim=1
    )
    torch.testing.assert_close(second, 0.5 * first)
    assert not torch.allclose(first, image, atol=0.1)
    assert first.max() == pytest.approx(0.8, abs=1e-5)


def test_the_same_generator_gives_the_same_batch():
    first, again, other = (augment(lopsided(3), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_random_hole_reaches_the_brain_and_has_the_radius_it_should():
    image = torch.zeros(300, 1, 64, 64)
    image[..., 30:34, 30:34] = 0.7  # a small brain in the middle: no hole is cut by the border
    hole = random_holes(image, 1.5, torch.Generator().manual_seed(0), most=1)
    assert hole.shape == image.shape
    assert set(hole.unique().tolist()) == {0.0, 1.0}
    assert ((hole * image).flatten(1).sum(dim=1) > 0).all()
    radius = 1.5 * (hole.flatten(1).sum(dim=1) / torch.pi).sqrt()
    assert 2.3 < radius.min() < 4
    assert 18 < radius.max() < 25
    assert radius.median() == pytest.approx(3 * 8**0.5, rel=0.2)  # as many small as large ones


def test_a_slice_has_one_to_three_holes():
    image = torch.full((200, 1, 96, 96), 0.7)
    holes = random_holes(image, 4.0, torch.Generator().manual_seed(0))  # of 0.75 to 6 pixels
    area = holes.flatten(1).sum(dim=1)
    assert (area > 0).mean(dtype=torch.float32) > 0.98
    single = random_holes(image, 4.0, torch.Generator().manual_seed(0), most=1).flatten(1).sum(dim=1)
    assert 1.5 < area.mean() / single.mean() < 2.5


# The linear path


def test_the_linear_path_reproduces_every_training_brain_and_its_mirror_image(data):
    brains = torch.as_tensor(data.brains(tuning=False))
    path = LinearPath(*mean_and_differences(brains.numpy()))
    height = torch.linspace(0, 1, HEIGHT)
    for number, brain in enumerate(brains):
        for z, expected in ((number, brain), (number + len(brains), brain.flip(-1))):
            made = path((8**0.5 * torch.eye(8)[z]).expand(HEIGHT, -1), height)[:, 0]
            assert (made - expected).abs().max() <= 0.5 / 25 + 1e-5  # half a level


def test_under_a_standard_normal_latent_slices_have_the_brains_mean_and_covariance(data):
    brains = data.brains(tuning=False)
    both = np.concatenate([brains, brains[..., ::-1]])
    path = LinearPath(*mean_and_differences(brains))
    height = torch.tensor([0.5])
    middle = both[:, round(0.5 * (HEIGHT - 1))].reshape(8, -1)
    np.testing.assert_allclose(path(torch.zeros(1, 8), height).numpy().ravel(), middle.mean(0), atol=0.01)
    components = path.components(path.held(height)[1])[0].flatten(1).numpy()
    np.testing.assert_allclose(components.T @ components, np.cov(middle.T, bias=True), atol=0.003)


def test_without_its_own_directions_a_brain_is_explained_by_the_others_alone():
    own = own_latent_directions(4)
    assert own.shape == (4, 8, 2)
    torch.testing.assert_close(own.mT @ own, torch.eye(2).expand(4, 2, 2))
    z = torch.ones(4, 8)
    for number, rest in enumerate(remove_directions(z, own)):
        assert rest[[number, number + 4]].tolist() == [0, 0]
        assert rest.sum() == 6


def test_a_latent_without_a_direction_keeps_the_rest():
    z = torch.tensor([[1.0, 2.0, 3.0]])
    own = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    torch.testing.assert_close(remove_directions(z, own), torch.tensor([[0.0, 0.0, 3.0]]))


def test_fitted_latents_minimise_the_weighted_error_and_the_prior(data):
    path = LinearPath(*mean_and_differences(data.brains(tuning=False)))
    own = own_latent_directions(4)[:3]
    slices, weight, height = torch.rand(3, 1, *SIZE), torch.rand(3, 1, *SIZE), torch.tensor([0.4, 0.6, 0.4])
    weight[..., :20] = 0
    found = fit_latents(path, slices, weight, height, own, noise=0.5)
    assert torch.einsum("nk,nkj->nj", found, own).abs().max() < 1e-5

    def loss(z):
        z = remove_directions(z, own)
        return (weight * (path(z, height) - slices) ** 2).sum() / 0.5 + (z**2).sum()

    gradient = torch.autograd.functional.jacobian(loss, found)
    assert gradient.abs().max() < 1e-3 * loss(found)
    blind = torch.where(weight > 0, slices, 77.0)
    torch.testing.assert_close(fit_latents(path, blind, weight, height, own, noise=0.5), found)


# The training itself


@pytest.fixture(scope="module", params=KINDS)
def trained(request, data):
    """A trainer after two epochs without a stop. The discriminator has no time to learn: any lead will do."""
    kind, settings = KINDS[request.param]
    trainer = kind(data, settings, CPU)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(gan, "LEAD", np.inf)
        for _ in range(2):
            trainer.run_epoch()
        yield trainer


def fresh(trained, data):
    return type(trained)(data, trained.settings, CPU)


def test_a_training_has_a_finite_loss_for_each_epoch(trained):
    assert [entry["epoch"] for entry in trained.history] == [1, 2]
    assert all(np.isfinite(list(entry.values())).all() for entry in trained.history)


def test_two_epochs_lower_a_vaes_loss(data):
    def loss():
        """Of the same slices, the same holes and the same noise every time."""
        state = trainer.generator.get_state()
        trainer.generator.manual_seed(0)
        some = torch.arange(0, len(trainer.slices), 4)
        slices = trainer.slices[some][:, None].float() / LEVELS
        with torch.no_grad():
            losses = trainer.losses(slices, trainer.heights[some], trainer.own[trainer.subjects[some]])
        trainer.generator.set_state(state)
        return float(sum(losses))

    trainer = VAETrainer(data, SETTINGS, CPU)
    before = loss()
    for _ in range(2):
        trainer.run_epoch()
    assert loss() < 0.9 * before


def test_the_discriminator_learns_to_tell_real_slices_from_generated_ones(data, monkeypatch):
    monkeypatch.setattr(trainers, "WARM_UP", 1)
    monkeypatch.setattr(gan, "LEAD", -np.inf)  # a generator that never learns
    kind, settings = KINDS["gan"]
    trainer = kind(data, replace(settings, epochs=4, learning_rate=1e-3), CPU)
    with torch.no_grad():
        trainer.network.decoder.refinement.out.bias.fill_(0.2)  # its slices are too bright
    before = copy.deepcopy(trainer.network.decoder.refinement.state_dict())
    for _ in range(4):
        trainer.run_epoch()
    assert trainer.history[-1]["discriminator"] < trainer.history[0]["discriminator"] - 0.2
    assert trainer.history[-1]["generator"] > trainer.history[0]["generator"]
    for name, tensor in trainer.network.decoder.refinement.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_generator_mends_what_gives_it_away(data, monkeypatch):
    monkeypatch.setattr(trainers, "WARM_UP", 1)
    kind, settings = KINDS["gan"]
    trainer = kind(data, replace(settings, epochs=30, learning_rate=3e-3), CPU)
    with torch.no_grad():
        trainer.network.decoder.refinement.out.bias.fill_(0.2)
    for _ in range(12):
        trainer.run_epoch()
    z, height = torch.zeros(HEIGHT, 8), torch.linspace(0, 1, HEIGHT)
    with torch.no_grad():
        added = trainer.network.decoder(z, height) - trainer.network.decoder.linear(z, height)
    assert added.mean() < 0.1


def test_a_gan_is_shipped_with_the_running_average_of_its_generator(data, monkeypatch):
    monkeypatch.setattr(gan, "LEAD", np.inf)
    kind, settings = KINDS["gan"]
    trainer = kind(data, settings, CPU)
    trainer.run_epoch()
    shipped, last = (network.decoder.refinement.out.weight for network in (trainer.trained(), trainer.network))
    assert torch.equal(shipped, trainer.average.module.out.weight)
    assert 0 < shipped.norm() != last.norm()


def test_an_epoch_sees_every_slice_once_and_four_of_a_height_together(trained):
    trainer = trained
    order = trainer._order()
    assert len(order.unique()) == len(order) > len(trainer.slices) - 4
    assert not torch.equal(order, trainer._order())
    groups = trainer.heights[order].view(-1, 4)
    assert (groups == groups[:, :1]).all(dim=1).float().mean() > 0.9


def test_training_leaves_the_linear_path_as_it_was_fitted(data, trained):
    before, after = fresh(trained, data).network.decoder, trained.network.decoder
    for name in ("mean", "differences"):
        assert torch.equal(getattr(before.linear, name), getattr(after.linear, name))
    assert not torch.equal(before.refinement.out.weight, after.refinement.out.weight)


def test_a_training_that_was_stopped_ends_with_the_same_weights(data, trained, tmp_path):
    checkpoint = tmp_path / "model.checkpoint"
    stopped = fresh(trained, data)
    stopped.run_epoch()
    stopped.save(checkpoint)
    torch.manual_seed(99)  # another process is in another random state
    resumed = fresh(trained, data)
    resumed.resume(checkpoint)
    assert resumed.epoch == 1
    resumed.run_epoch()
    for name, tensor in trained.trained().state_dict().items():
        assert torch.equal(resumed.trained().state_dict()[name], tensor), name
    assert resumed.history == trained.history

    for change in ({"epochs": 3}, {"learning_rate": 0.5}, {"seed": 1}):
        stopped.settings = replace(trained.settings, **change)
        with pytest.raises(InputError, match="other settings"):
            stopped.resume(checkpoint)


def test_a_damaged_checkpoint_is_refused(data, tmp_path):
    checkpoint = tmp_path / "model.checkpoint"
    checkpoint.write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"model\.checkpoint cannot be read"):
        VAETrainer(data, SETTINGS, CPU).resume(checkpoint)


def test_the_tuning_subjects_are_never_trained_on(data, trained):
    seen = {bytes(image) for image in trained.slices.numpy().reshape(len(trained.slices), -1)}
    held_out = {bytes(image) for image in usable_slices(data.slices[data.tuning])[0].numpy().reshape(-1, 48 * 32)}
    assert seen
    assert held_out
    assert not seen & held_out


def test_the_learning_rate_warms_up_then_falls_to_nothing(data, trained):
    trainer = fresh(trained, data)
    trainer.settings = replace(trained.settings, epochs=1000)
    last = 1000 * trainer.steps
    rates = []
    for step in range(0, last + 1, 10):
        trainer._set_learning_rate(step)
        rates.append([part.param_groups[0]["lr"] for part in trainer.parts.values() if hasattr(part, "param_groups")])
    for rate in np.transpose(rates):
        assert 180 <= rate.argmax() * 10 <= 220
        assert rate[0] == pytest.approx(rate.max() / 200, rel=0.05)
        assert rate[-1] == pytest.approx(0, abs=1e-9)
    assert np.max(rates) == pytest.approx(trained.settings.learning_rate, rel=0.05)


@pytest.mark.parametrize("name", KINDS)
def test_a_trained_model_is_saved_with_its_card_and_its_checkpoint_guards_it(data, tmp_path, monkeypatch, name):
    monkeypatch.setattr(validation, "CASES", 1)
    kind, settings = KINDS[name]
    save(data, tmp_path / "slices.npz")
    output = tmp_path / "model"
    settings = replace(settings, epochs=1, batch=64, kernel=7)
    model = train(kind, tmp_path / "slices.npz", output, settings, "cpu", resume=False)
    card = json.loads((output / "card.json").read_text())
    assert card == find_model(str(output)).card == model.card
    assert (card["kind"], card["kernel"], card["latent"], card["epochs"]) == (name, 7, 8, 1)
    assert card["command"] == f"medinpaint train {name} --kernel 7"
    assert card["data"] == data.source
    assert card["training_subjects"] == data.names(tuning=False)
    assert card["validation"]["subjects"] == data.names(tuning=True)
    assert all(np.isfinite(value) for value in card["validation"]["psnr_by_radius"].values())
    assert model.network(CPU).decoder(torch.zeros(1, 8), torch.tensor([0.5])).shape == (1, 1, *SIZE)

    grid = sitk.GetArrayFromImage(sitk.ReadImage(str(output / "samples.png")))
    assert grid.shape == (4 * SIZE[0], 6 * SIZE[1])
    assert grid.max() > 100  # there is a brain

    (tmp_path / "model.checkpoint").write_bytes(b"of an earlier run")
    with pytest.raises(InputError, match="--resume"):
        train(kind, tmp_path / "slices.npz", output, settings, "cpu", resume=False)


# The figures


def test_a_round_hole_is_a_ball_in_the_brain():
    brain = np.zeros((30, 40, 40), np.float32)
    brain[5:25, 8:32, 8:32] = 0.7
    hole = validation.round_hole(brain, 4.0, np.random.default_rng(0))
    places = np.argwhere(hole)
    assert hole.sum() == 257  # lattice points within 4 of the middle
    assert brain[hole].all()
    assert np.linalg.norm(places - places.mean(axis=0), axis=1).max() <= 4


def test_slices_of_a_model_space_brain_show_it_but_for_the_hole():
    brain = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
    hole = np.zeros(brain.shape, bool)
    hole[10:13, 4:9, 4:9] = True
    slices = validation.model_space_slices(brain, hole)
    assert slices.heights.tolist() == list(range(10 - NEIGHBOURS, 13 + NEIGHBOURS))
    np.testing.assert_array_equal(slices.image, np.where(hole, 0, brain)[slices.heights])
    np.testing.assert_array_equal(slices.hole, hole[slices.heights])
    np.testing.assert_array_equal(slices.context, ~slices.hole)


# Brains in one shape


def test_brains_that_differ_in_shape_alone_become_alike():
    y, x = np.meshgrid(np.arange(48), np.arange(32), indexing="ij")

    def brain(shift, wider):
        radius = np.hypot((y - 24 - shift) / (14 + wider), (x - 15.5) / 10)
        return np.broadcast_to(0.7 / (1 + np.exp(8 * (radius**2 - 1))), (12, 48, 32)).astype(np.float32)

    brains = np.stack([brain(-1.5, 0), brain(1.5, 1), brain(0, -1)])
    before = brains.copy()
    shaped = to_common_shape(brains, CPU)
    assert shaped.shape == brains.shape
    assert shaped.dtype == np.float32
    np.testing.assert_array_equal(brains, before)
    assert shaped.var(axis=0).mean() < 0.25 * brains.var(axis=0).mean()
    assert abs(shaped.mean() / brains.mean() - 1) < 0.05


def test_equal_symmetric_brains_are_left_as_they_are():
    brain = made_brains(1)[0].astype(np.float32) / LEVELS
    brains = np.concatenate([brain + brain[..., ::-1]] * 2) / 2
    moved_by_a_pixel = np.abs(np.roll(brains, 1, axis=-1) - brains).mean()
    assert np.abs(to_common_shape(brains, CPU) - brains).mean() < 0.1 * moved_by_a_pixel
