"""A model on disk: what was saved comes back exactly, and what was altered is refused in a sentence."""

import hashlib
import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib import models
from MedInpaintLib.alignment import Template
from MedInpaintLib.errors import InputError
from MedInpaintLib.networks import GAN, VAE
from synthetic import linear_path_of, volume

SLICE = (48, 32)
CARD = {"kind": "vae", "kernel": 3, "latent": 6, "data": {"licence": "CC0"}}


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def made_template():
    rng = np.random.default_rng(0)
    brain = np.zeros((6, *SLICE), np.uint8)
    brain[1:5, 8:40, 6:26] = 1
    image = (rng.uniform(0, 1.2, brain.shape) * brain).astype(np.float32)
    image[2, 20, 10:14] = 0  # the darkest tissue is still brain
    geometry = {"spacing": (1.5, 1.5, 1.5), "origin": (-20.25, 4.5, 8.0)}
    return Template(volume(image, **geometry), volume(brain, **geometry))


@pytest.fixture(params=[VAE, GAN], ids=["vae", "gan"])
def network(request):
    torch.manual_seed(0)
    return request.param(*linear_path_of(6, 3, SLICE), 3)


@pytest.fixture
def model(tmp_path, network):
    kind = "vae" if isinstance(network, VAE) else "gan"
    return models.save_model(tmp_path / "mine", network, made_template(), {**CARD, "kind": kind})


def network_of(model):
    return model.network(torch.device("cpu"))


def altered(model, name, change):
    path = model.folder / name
    path.write_bytes(change(path.read_bytes()))


def with_flipped_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def replaced_with_right_hash(model, name, content):
    (model.folder / name).write_bytes(content)
    card = json.loads((model.folder / "card.json").read_text())
    card["sha256"][name] = hashlib.sha256(content).hexdigest()
    (model.folder / "card.json").write_text(json.dumps(card))
    return models.find_model(str(model.folder))


def refused(action, *mentioned):
    with pytest.raises(InputError) as refusal:
        action()
    sentence = str(refusal.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for word in mentioned:
        assert word in sentence


def test_saved_weights_come_back_exactly_in_half_precision_and_the_brains_as_they_were(model, network):
    found = models.find_model(str(model.folder))
    loaded = network_of(found)
    state = network.state_dict()
    assert type(loaded) is type(network)
    assert loaded.state_dict().keys() == state.keys()
    for name, tensor in loaded.state_dict().items():
        saved = state[name]
        assert torch.equal(tensor, saved.half().float() if saved.is_floating_point() else saved), name
    for name in ("mean", "differences"):
        assert torch.equal(getattr(loaded.decoder.linear, name), getattr(network.decoder.linear, name))
    assert found.name == "mine"
    assert {**found.card, "kind": "vae"} == {**CARD, "sha256": found.card["sha256"]}


def test_models_of_the_same_brains_may_share_them_beside_the_shipped_ones(model, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "models_folder", lambda: tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    (model.folder / "brains.npz").rename(tmp_path / "shipped" / "brains.npz")
    assert network_of(model).decoder.linear.latent == 6


def test_a_loaded_network_is_ready_to_use_and_not_to_train(model):
    network = network_of(model)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_saved_template_comes_back_to_half_a_grey_level_with_its_brain_and_grid(model):
    saved, loaded = made_template(), model.template()
    brain = sitk.GetArrayFromImage(saved.brain)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.brain), brain)
    difference = (sitk.GetArrayFromImage(loaded.image) - sitk.GetArrayFromImage(saved.image))[brain > 0]
    assert np.abs(difference).max() <= 1 / models.TEMPLATE_LEVELS  # 0 in the brain becomes the first level
    assert np.median(np.abs(difference)) <= 0.5 / models.TEMPLATE_LEVELS
    assert loaded.image.GetPixelID() == sitk.sitkFloat32
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(loaded.image, geometry)() == pytest.approx(getattr(saved.image, geometry)())
        assert getattr(loaded.brain, geometry)() == pytest.approx(getattr(saved.image, geometry)())


@pytest.mark.parametrize("change", [with_flipped_bit, lambda content: content[:-100], lambda content: b""])
def test_altered_weights_are_refused(model, change):
    altered(model, "weights.pt", change)
    refused(lambda: network_of(model), "weights.pt", "mine", "altered")


def test_an_altered_template_is_refused(model):
    altered(model, "template.nii.gz", with_flipped_bit)
    refused(model.template, "template.nii.gz", "mine", "altered")


@pytest.mark.parametrize("name", ["weights.pt", "brains.npz", "template.nii.gz"])
def test_a_missing_file_is_named(model, name, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "models_folder", lambda: tmp_path / "shipped")
    (model.folder / name).unlink()
    action = model.template if name.startswith("template") else lambda: network_of(model)
    refused(action, name, "lacks")


@pytest.mark.parametrize("name", ["weights.pt", "template.nii.gz"])
def test_a_file_that_the_card_gives_no_hash_of_is_refused(model, name):
    del model.card["sha256"][name]
    action = model.template if name.startswith("template") else lambda: network_of(model)
    refused(action, name)


@pytest.mark.parametrize(
    "card",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"null",
        b"\xff\xfe\x00",
        json.dumps({**CARD, "sha256": "abc"}).encode(),
        json.dumps(CARD).encode(),
        *(json.dumps({"sha256": {}, **{k: v for k, v in CARD.items() if k != key}}).encode() for key in list(CARD)[:3]),
    ],
)
def test_a_card_that_is_no_card_is_refused(model, card):
    altered(model, "card.json", lambda _: card)
    refused(lambda: models.find_model(str(model.folder)), "card", "mine")


@pytest.mark.parametrize("change", [{"latent": 5}, {"kernel": 7}, {"latent": "4"}])
def test_weights_that_do_not_fit_their_card_are_refused(model, change):
    altered(model, "card.json", lambda content: json.dumps({**json.loads(content), **change}).encode())
    found = models.find_model(str(model.folder))
    refused(lambda: network_of(found), "weights", "card", "mine")


def test_weights_with_code_in_them_are_refused_and_the_code_does_not_run(model, tmp_path):
    torch.save(Payload(tmp_path / "ran"), tmp_path / "bad.pt")
    found = replaced_with_right_hash(model, "weights.pt", (tmp_path / "bad.pt").read_bytes())
    refused(lambda: network_of(found), "weights")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "bad.pt", weights_only=False).close()
    assert (tmp_path / "ran").exists()  # it would have


@pytest.mark.parametrize("name", ["no such model", "", "vae3/", "../Models/vae3"])
def test_an_unknown_model_is_answered_with_the_names_there_are(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = [model.name for model in models.shipped_models()]
    assert shipped
    refused(lambda: models.find_model(name), name, *shipped)


def test_a_folder_without_a_card_is_no_model(tmp_path):
    refused(lambda: models.find_model(str(tmp_path)), str(tmp_path))


@pytest.mark.parametrize("model", models.shipped_models(), ids=lambda model: model.name)
def test_a_shipped_model_is_whole_small_and_says_where_it_comes_from(model):
    files = [*model.folder.iterdir(), models.models_folder() / "brains.npz"]
    assert sum(file.stat().st_size for file in files) <= 15e6
    assert model.card["data"]["licence"]
    assert "doi" in model.card["data"]["citation"]
    names = (model.card["training_subjects"], model.card["validation"]["subjects"])
    trained, held_out = (set(re.findall(r"sub-\d+", " ".join(part))) for part in names)
    assert trained
    assert held_out
    assert not trained & held_out
    template = model.template()
    assert list(template.image.GetSize()) == model.card["grid"]["size"]
    assert list(template.image.GetSize()) == model.card["grid"]["size"]
    image, brain = (sitk.GetArrayFromImage(part) for part in (template.image, template.brain))
    assert ((image > 0) == (brain > 0)).all()
    assert np.percentile(image[brain > 0], [50, 98]).round(1) == pytest.approx([0.6, 0.8], abs=0.2)
    with torch.no_grad():
        middle = network_of(model).decoder(torch.zeros(1, model.card["latent"]), torch.tensor([0.5]))
    inside = brain[len(brain) // 2] > 0
    assert np.corrcoef(middle[0, 0].numpy()[inside], image[len(brain) // 2][inside])[0, 1] > 0.8
