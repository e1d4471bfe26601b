"""The brains of a new model, and the linear model that they are."""

import json
from functools import partial

import numpy as np
import torch
from MedInpaintLib.models.linear import Brains, Linear
from MedInpaintLib.settings import Settings
from MedInpaintLib.training import export
from MedInpaintLib.training.linear import train_linear
from MedInpaintLib.training.slices.data import LEVELS, save
from MedInpaintLib.training.slices.shape import mean_and_differences
from MedInpaintLib.training.validation import validate


def brains_and_model(data):
    brains = data.training.astype(np.float32) / LEVELS
    return brains, Linear(Brains(*mean_and_differences(brains)))


def test_the_linear_model_reproduces_every_training_brain_and_its_mirror_image(data):
    brains, model = brains_and_model(data)
    brains = torch.as_tensor(brains)
    height = torch.linspace(0, 1, brains.shape[1])
    for number, brain in enumerate(brains):
        for z, expected in ((number, brain), (number + len(brains), brain.flip(-1))):
            generated = model.generate((8**0.5 * torch.eye(8)[z]).expand(len(height), -1), height)[:, 0]
            assert (generated - expected).abs().max() <= 0.5 / 25 + 1e-5  # half a level


def test_under_a_standard_normal_latent_slices_have_the_brains_mean_and_covariance(data):
    brains, model = brains_and_model(data)
    both = np.concatenate([brains, brains[..., ::-1]])
    height = torch.tensor([0.5])
    middle = both[:, round(0.5 * (brains.shape[1] - 1))].reshape(8, -1)
    np.testing.assert_allclose(model.generate(torch.zeros(1, 8), height).numpy().ravel(), middle.mean(0), atol=0.01)
    components = model.brains.components(height)[0].flatten(1).numpy()
    np.testing.assert_allclose(components.T @ components, np.cov(middle.T, bias=True), atol=0.003)


def test_the_linear_model_is_written_with_its_card(data, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "validate", partial(validate, settings=Settings(iterations=2)))
    save(data, tmp_path / "slices.npz")
    model = train_linear(tmp_path / "slices.npz", tmp_path / "mine" / "linear")
    card = json.loads((tmp_path / "mine" / "linear" / "card.json").read_text(encoding="utf-8"))
    assert card == model.card
    assert (card["kind"], card["kernel"], card["latent"], card["epochs"]) == ("linear", None, 8, 0)
    _, expected = brains_and_model(data)
    z, height = torch.randn(1, 8), torch.tensor([0.5])
    found = model.network(torch.device("cpu")).generate(z, height)
    torch.testing.assert_close(found, expected.generate(z, height))
