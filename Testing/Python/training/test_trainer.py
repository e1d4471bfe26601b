"""A small training learns, stops, and continues as if it had not stopped."""

import copy
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib.errors import InputError
from MedInpaintLib.models import generator
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.settings import Settings
from MedInpaintLib.training import export, gan
from MedInpaintLib.training import trainer as trainers
from MedInpaintLib.training.gan import GANSettings, GANTrainer
from MedInpaintLib.training.slices.data import LEVELS, save
from MedInpaintLib.training.trainer import train, usable_slices
from MedInpaintLib.training.vae import VAESettings, VAETrainer
from MedInpaintLib.training.validation import validate

SETTINGS = VAESettings(epochs=2, batch=8, learning_rate=0.1)  # few steps: a warm-up
KINDS = {  # trainer and settings by kind of model
    "vae": (VAETrainer, SETTINGS),
    "gan": (GANTrainer, GANSettings(epochs=2, batch=8, learning_rate=0.01)),
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    """Networks with few channels."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for kernel in generator.CHANNELS:
            monkeypatch.setitem(generator.CHANNELS, kernel, (8, 8, 16, 16))
        yield


def test_slices_with_next_to_no_brain_are_not_trained_on(data):
    slices, heights, subjects = usable_slices(data.training)
    assert sorted(set(subjects.tolist())) == list(range(len(data.training)))
    share = (data.training > 0).mean(axis=(2, 3))
    assert len(slices) == len(heights) == (share > 0.02).sum()
    assert ((slices > 0).float().mean(dim=(1, 2)) > 0.02).all()
    index = (heights * (data.training.shape[1] - 1)).round().long().numpy()
    assert set(index) == set(np.flatnonzero((share > 0.02).any(axis=0)))


@pytest.fixture(scope="module", params=KINDS)
def trained(request, data):
    """A trainer after two epochs without a stop."""
    kind, settings = KINDS[request.param]
    trainer = kind(data, settings, CPU)
    for _ in range(2):
        trainer.run_epoch()
    return trainer


def fresh(trained, data):
    return type(trained)(data, trained.settings, CPU)


def test_a_training_has_a_finite_loss_for_each_epoch(trained):
    assert [entry["epoch"] for entry in trained.history] == [1, 2]
    assert all(np.isfinite(list(entry.values())).all() for entry in trained.history)


@pytest.mark.parametrize("trained", ["vae"], indirect=True)
def test_two_epochs_lower_a_vaes_loss(data, trained):
    def loss(trainer):
        """Of the same slices, the same holes and the same noise every time."""
        state = trainer.generator.get_state()
        trainer.generator.manual_seed(0)
        trainer.network.eval()
        some = torch.arange(0, len(trainer.slices), 4)
        slices = trainer.slices[some][:, None].float() / LEVELS
        with torch.no_grad():
            losses = trainer.losses(slices, trainer.heights[some], trainer.subjects[some])
        trainer.generator.set_state(state)
        return float(sum(losses))

    assert loss(trained) < 0.9 * loss(fresh(trained, data))


@pytest.fixture
def bright_gan(data, monkeypatch):
    """Builds a trainer without a warm-up; its generator adds too much brightness."""
    monkeypatch.setattr(trainers, "WARM_UP", 1)

    def build(**settings):
        trainer = GANTrainer(data, GANSettings(batch=8, **settings), CPU)
        with torch.no_grad():
            trainer.network.generator.out.bias.fill_(0.2)
        return trainer

    return build


def test_the_discriminator_learns_to_tell_real_slices_from_generated_ones(bright_gan, monkeypatch):
    monkeypatch.setattr(gan, "GENERATOR_RATE", 0.0)  # a generator that never learns
    trainer = bright_gan(epochs=7, learning_rate=5e-3)
    before = copy.deepcopy(dict(trainer.network.generator.named_parameters()))
    for _ in range(7):
        trainer.run_epoch()
    assert trainer.history[-1]["discriminator"] < trainer.history[0]["discriminator"] - 0.2
    assert trainer.history[-1]["generator"] > trainer.history[0]["generator"]
    for name, parameter in trainer.network.generator.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_a_generator_corrects_the_difference_by_which_it_is_recognised(bright_gan):
    trainer = bright_gan(epochs=30, learning_rate=3e-3)
    for _ in range(10):
        trainer.run_epoch()
    height = torch.linspace(0, 1, 24)
    network = trainer.network.eval()
    with torch.no_grad():
        added = network.generate(torch.zeros(24, network.latent), height) - network.brains.mean_at(height)
    assert added.mean() < 0.1


def test_a_vaes_skip_leaves_out_the_brain_of_each_slice(data):
    """Without convolutions, z has no effect on a brain's slice through the brain itself and its mirror image."""
    trainer = VAETrainer(data, SETTINGS, CPU)
    z = torch.zeros(4, trainer.network.latent)
    height, subject = torch.full((4,), 0.5), torch.arange(4)
    with torch.no_grad():
        trainer.network.skip.weight[:] = 0
        trainer.network.skip.weight[torch.arange(8), torch.arange(8)] = 1  # z is the weights of the brains
        for number in range(4):
            z[:] = 0
            z[:, number], z[:, number + 4] = 1.0, 2.0
            moved = trainer._decode_without(subject, z, height) - trainer.network.brains.mean_at(height)
            assert moved[number].abs().max() == 0
            assert all(moved[other].abs().max() > 0.01 for other in range(4) if other != number)


def test_the_slope_penalty_is_half_a_twentieth_of_the_squared_gradient_at_real_slices(data, monkeypatch):
    """The discriminator is a sum of pixels times 3: its slope is 3 in each of them."""
    trainer = GANTrainer(data, KINDS["gan"][1], CPU)
    monkeypatch.setattr(trainer.network, "discriminator", Sum())
    slices = torch.rand(2, 1, 48, 32)
    assert trainer._slope(slices, torch.zeros(2)).item() == pytest.approx(gan.SMOOTH_WEIGHT * 9 * 48 * 32, rel=1e-4)


class Sum(torch.nn.Module):
    def forward(self, image, height):
        return 3 * image.sum(dim=(1, 2, 3))


@pytest.mark.parametrize("trained", ["gan"], indirect=True)
def test_a_gan_is_shipped_with_the_running_average_of_its_generator(trained):
    shipped, last = (network.generator.out.weight for network in (trained.final_network(), trained.network))
    assert torch.equal(shipped, trained.average.module.out.weight)
    assert 0 < shipped.norm() != last.norm()


def test_training_changes_the_networks_and_not_the_brains(data, trained):
    before, after = fresh(trained, data).network, trained.network
    for name in ("mean", "differences"):
        assert torch.equal(getattr(before.brains, name), getattr(after.brains, name))
    assert not torch.equal(before.generator.out.weight, after.generator.out.weight)
    assert not torch.equal(before.generator.project.weight, after.generator.project.weight)


def test_a_stopped_training_continues_to_the_same_weights(data, trained, tmp_path):
    checkpoint = tmp_path / "model.checkpoint"
    stopped = fresh(trained, data)
    stopped.run_epoch()
    stopped.save(checkpoint)
    torch.manual_seed(99)  # another process is in another random state
    resumed = fresh(trained, data)
    resumed.resume(checkpoint)
    assert resumed.epoch == 1
    resumed.run_epoch()
    for name, tensor in trained.final_network().state_dict().items():
        assert torch.equal(resumed.final_network().state_dict()[name], tensor), name
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
    seen = {bytes(image) for image in trained.slices.numpy()}
    tuning = {bytes(image) for image in usable_slices(data.tuning)[0].numpy()}
    assert seen
    assert tuning
    assert not seen & tuning


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
def test_a_trained_model_is_saved_with_its_card_and_an_old_checkpoint_is_refused(data, tmp_path, monkeypatch, name):
    monkeypatch.setattr(export, "validate", partial(validate, settings=Settings(iterations=2)))
    kind, settings = KINDS[name]
    save(data, tmp_path / "slices.npz")
    output, size = tmp_path / "new" / "model", data.training.shape[2:]
    settings = replace(settings, epochs=1, batch=64, kernel=7)
    model = train(kind, tmp_path / "slices.npz", output, settings, "cpu", resume=False)
    card = json.loads((output / "card.json").read_text(encoding="utf-8"))
    assert card == find_model(str(output)).card == model.card
    assert (card["kind"], card["kernel"], card["latent"], card["epochs"]) == (name, 7, 100, 1)
    assert card["command"] == f"medinpaint train {name} --kernel 7"
    assert card["data"] == data.source
    assert card["training_subjects"] == data.training_subjects
    assert card["validation"]["subjects"] == data.tuning_subjects
    assert all(np.isfinite(value) for value in card["validation"]["psnr_by_radius"].values())
    assert model.network(CPU).generate(torch.zeros(1, 100), torch.tensor([0.5])).shape == (1, 1, *size)

    grid = sitk.GetArrayFromImage(sitk.ReadImage(str(output / "samples.png")))
    assert grid.shape == (4 * size[0], 6 * size[1])
    assert grid.max() > 100  # there is a brain

    (tmp_path / "new" / "model.checkpoint").write_bytes(b"of an earlier run")
    with pytest.raises(InputError, match="--resume"):
        train(kind, tmp_path / "slices.npz", output, settings, "cpu", resume=False)


def test_a_trained_gan_draws_new_brains(monkeypatch, data):
    """Each is farther from the nearest training slice than 0.3 of what two brains' slices are apart."""
    monkeypatch.setattr(trainers, "WARM_UP", 20)
    trainer = GANTrainer(data, GANSettings(epochs=30, batch=8), CPU)
    for _ in range(30):
        trainer.run_epoch()
    network = trainer.final_network().eval()
    height = torch.full((20,), 0.5)
    real = torch.as_tensor(data.training[:, round(0.5 * 23)] / LEVELS).float()
    with torch.no_grad():
        drawn = network.generate(torch.randn(20, network.latent), height)[:, 0]
    both = torch.cat([real, real.flip(-1)])
    between = torch.cdist(real.flatten(1), real.flatten(1))[~torch.eye(len(real), dtype=bool)].min()
    nearest = torch.cdist(drawn.flatten(1), both.flatten(1)).min(dim=1).values
    assert (nearest > 0.3 * between).all()
    assert torch.corrcoef(torch.stack([drawn.mean(0).flatten(), real.mean(0).flatten()]))[0, 1] > 0.9
