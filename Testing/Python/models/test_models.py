"""A model on disk: saved files come back exactly, altered files are refused in a sentence."""

import hashlib
import json
import os
import re
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib.errors import InputError
from MedInpaintLib.models import folder
from MedInpaintLib.models.gan import GAN
from MedInpaintLib.models.linear import Linear
from MedInpaintLib.models.registry import find_model, shipped_models
from MedInpaintLib.models.vae import VAE
from MedInpaintLib.space.template import Template
from synthetic import brains_of, volume

SLICE = (48, 32)
CARD = {"kind": "vae", "kernel": 3, "latent": 100, "data": {"licence": "CC0"}}
TEMPLATE = "template.nii.gz"


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def small_template():
    rng = np.random.default_rng(0)
    brain = np.zeros((6, *SLICE), np.uint8)
    brain[1:5, 8:40, 6:26] = 1
    image = (rng.uniform(0, 1.2, brain.shape) * brain).astype(np.float32)
    image[2, 20, 10:14] = 0  # the darkest tissue is still brain
    geometry = {"spacing": (1.5, 1.5, 1.5), "origin": (-20.25, 4.5, 8.0)}
    return Template(volume(image, **geometry), volume(brain, **geometry))


@pytest.fixture(params=["vae", "gan", "linear"])
def kind(request):
    return request.param


@pytest.fixture
def network(kind):
    torch.manual_seed(0)
    brains = brains_of(6, 3, SLICE)
    return Linear(brains) if kind == "linear" else {"vae": VAE, "gan": GAN}[kind](brains, 3)


@pytest.fixture
def model(tmp_path, network, kind):
    card = {**CARD, "kind": kind, "latent": network.latent}
    return folder.save_model(tmp_path / "mine", network, small_template(), card)


# For tests of facts that do not depend on the kind of network.
any_kind = pytest.mark.parametrize("kind", ["vae"], indirect=True, ids=["any"])


def network_of(model):
    return model.network(torch.device("cpu"))


def use(model, name):
    """Read the file of this name."""
    return model.template() if name == TEMPLATE else network_of(model)


def altered(model, name, change):
    path = model.folder / name
    path.write_bytes(change(path.read_bytes()))


def with_flipped_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def replaced_with_right_hash(model, name, content):
    (model.folder / name).write_bytes(content)
    card = json.loads((model.folder / "card.json").read_text(encoding="utf-8"))
    card["sha256"][name] = hashlib.sha256(content).hexdigest()
    (model.folder / "card.json").write_text(json.dumps(card))
    return find_model(str(model.folder))


def refused(action, *mentioned):
    with pytest.raises(InputError) as refusal:
        action()
    sentence = str(refusal.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for word in mentioned:
        assert word in sentence


def test_saved_weights_come_back_exactly_in_half_precision_and_the_brains_as_they_were(model, network):
    found = find_model(str(model.folder))
    loaded = network_of(found)
    state = network.state_dict()
    assert type(loaded) is type(network)
    assert loaded.state_dict().keys() == state.keys()
    for name, tensor in loaded.state_dict().items():
        saved = state[name]
        assert torch.equal(tensor, saved.half().float() if saved.is_floating_point() else saved), name
    for name in ("mean", "differences"):
        assert torch.equal(getattr(loaded.brains, name), getattr(network.brains, name))
    assert found.name == "mine"
    assert found.card["format"] == folder.FORMAT
    assert found.card["data"] == CARD["data"]


@any_kind
@pytest.mark.parametrize("name", ["brains.npz", TEMPLATE])
def test_a_file_that_is_not_in_the_folder_is_taken_from_beside_the_shipped_models(model, name, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "models_folder", lambda: tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / name).write_bytes(b"not looked at while the folder has its own")
    use(model, name)
    (model.folder / name).replace(tmp_path / "shipped" / name)
    use(model, name)
    (tmp_path / "shipped" / name).write_bytes(b"that of other models")
    refused(lambda: use(model, name), name, "mine", "altered")


def test_a_loaded_network_is_ready_to_use_and_not_to_train(model):
    network = network_of(model)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_template_is_read_as_itk_reads_it_and_itk_never_sees_its_path(model, monkeypatch):
    """On Windows ITK cannot open a path that is not ASCII, such as that of a user."""
    for found in (model, find_model("linear")):
        path = found._find(TEMPLATE)
        stored = sitk.ReadImage(str(path))
        with monkeypatch.context() as patch:
            patch.setattr(sitk, "ImageFileReader", lambda: pytest.fail("read by ITK"))
            got = found.template().image
        np.testing.assert_array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(stored) / np.float32(200))
        for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(got, geometry)() == getattr(stored, geometry)()


def test_a_saved_template_comes_back_to_half_a_grey_level_with_its_brain_and_grid(model):
    saved, loaded = small_template(), model.template()
    brain = sitk.GetArrayFromImage(saved.brain)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.brain), brain)
    difference = (sitk.GetArrayFromImage(loaded.image) - sitk.GetArrayFromImage(saved.image))[brain > 0]
    assert np.abs(difference).max() <= 1 / folder.TEMPLATE_LEVELS  # 0 in the brain becomes the first level
    assert np.median(np.abs(difference)) <= 0.5 / folder.TEMPLATE_LEVELS
    assert loaded.image.GetPixelID() == sitk.sitkFloat32
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(loaded.image, geometry)() == pytest.approx(getattr(saved.image, geometry)())
        assert getattr(loaded.brain, geometry)() == pytest.approx(getattr(saved.image, geometry)())


@any_kind
@pytest.mark.parametrize("name", ["weights.pt", TEMPLATE])
@pytest.mark.parametrize("change", [with_flipped_bit, lambda content: content[:-100], lambda content: b""])
def test_an_altered_file_is_refused(model, name, change):
    altered(model, name, change)
    refused(lambda: use(model, name), name, "mine", "altered")


@any_kind
@pytest.mark.parametrize("name", ["weights.pt", "brains.npz", TEMPLATE])
def test_a_missing_file_is_named(model, name, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "models_folder", lambda: tmp_path / "shipped")
    (model.folder / name).unlink()
    refused(lambda: use(model, name), name, "lacks")


@any_kind
@pytest.mark.parametrize("name", ["weights.pt", TEMPLATE])
def test_a_file_without_a_hash_in_the_card_is_refused(model, name):
    del model.card["sha256"][name]
    refused(lambda: use(model, name), name)


@any_kind
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
        json.dumps({**CARD, "sha256": {"../weights.pt": "abc"}}).encode(),
        json.dumps({**CARD, "sha256": {"/etc/passwd": "abc"}}).encode(),
        b'{"sha256": ' + b"[" * 500_000,  # more than a parser's stack holds
        b'{"sha256": ' * 80_000,
        json.dumps(CARD).encode().replace(b"3", b"3" * 400_000),
        *(json.dumps({"sha256": {}, **{k: v for k, v in CARD.items() if k != key}}).encode() for key in list(CARD)[:3]),
    ],
)
def test_a_card_that_is_no_card_is_refused(model, card):
    altered(model, "card.json", lambda _: card)
    refused(lambda: find_model(str(model.folder)), "card", "mine")


@any_kind
def test_a_model_of_an_older_version_is_refused_in_one_sentence(model):
    old = {key: value for key, value in model.card.items() if key != "format"}
    altered(model, "card.json", lambda content: json.dumps(old).encode())
    refused(lambda: find_model(str(model.folder)), "mine", "another version", "train it again")


@any_kind
@pytest.mark.parametrize("change", [{"latent": 5}, {"kernel": 7}, {"latent": "4"}, {"kind": "gan"}, {"kind": "other"}])
def test_weights_that_do_not_fit_their_card_are_refused(model, change):
    altered(model, "card.json", lambda content: json.dumps({**json.loads(content), **change}).encode())
    found = find_model(str(model.folder))
    refused(lambda: network_of(found), "weights", "card", "mine")


def test_a_torch_that_does_not_work_with_this_numpy_is_told_and_the_weights_are_not_blamed(model, monkeypatch):
    def fail(array):
        raise RuntimeError("Numpy is not available")

    monkeypatch.setattr(torch, "from_numpy", fail)
    with pytest.raises(InputError, match=r"^PyTorch .* cannot work with numpy .*: install .*\.$") as refusal:
        network_of(model)
    assert "weights" not in str(refusal.value)


def test_weights_with_code_in_them_are_refused_and_the_code_does_not_run(model, tmp_path):
    torch.save(Payload(tmp_path / "ran"), tmp_path / "bad.pt")
    found = replaced_with_right_hash(model, "weights.pt", (tmp_path / "bad.pt").read_bytes())
    refused(lambda: network_of(found), "weights")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "bad.pt", weights_only=False).close()
    assert (tmp_path / "ran").exists()  # it would have


def never(*given, **options):
    pytest.fail("a file that is too large was loaded")


@pytest.fixture
def little_memory():
    """Fails the test if it takes much more memory than a small model's files."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6


@any_kind
def test_a_huge_card_is_refused_unread(model, little_memory):
    with (model.folder / "card.json").open("r+b") as file:
        file.truncate(2**30)
    refused(lambda: find_model(str(model.folder)), "card", "mine")


@any_kind
@pytest.mark.parametrize("name", ["weights.pt", "brains.npz", TEMPLATE])
def test_a_huge_file_is_refused_unread(model, name, little_memory):
    with (model.folder / name).open("r+b") as file:
        file.truncate(2**31)
    refused(lambda: use(model, name), name, "mine", "too large")


@any_kind
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["weights.pt", "brains.npz", TEMPLATE, "card.json"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_a_file_that_is_no_ordinary_file_is_refused_without_waiting(model, name, make, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "models_folder", lambda: tmp_path)
    (model.folder / name).unlink()
    make(model.folder / name)
    if name == "card.json":
        refused(lambda: find_model(str(model.folder)), "no model")
    else:
        refused(lambda: use(model, name), name, "lacks")


@any_kind
@pytest.mark.parametrize("name", ["weights.pt", "brains.npz"])
def test_an_archive_that_unpacks_to_too_much_is_refused_packed(model, name, monkeypatch, little_memory):
    monkeypatch.setattr(folder, "LARGEST_CONTENT", 10**6)
    with zipfile.ZipFile(model.folder / name, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("more", "w") as more:
        for _ in range(40):
            more.write(bytes(10**6))
    found = replaced_with_right_hash(model, name, (model.folder / name).read_bytes())
    monkeypatch.setattr(torch, "load", never)
    if name == "brains.npz":
        monkeypatch.setattr(np, "load", never)
    refused(lambda: network_of(found), "weights", "mine")


def test_weights_in_another_format_than_an_archive_are_refused(model, network):
    path = model.folder / "weights.pt"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    found = replaced_with_right_hash(model, "weights.pt", path.read_bytes())
    refused(lambda: network_of(found), "weights", "mine")


@any_kind
@pytest.mark.parametrize(
    ("mean", "differences", "kinds"),
    [
        ((1, 16, 16), (1, 3000, 16, 16), ("uint8", "int8")),
        ((1, 528, 16), (1, 3, 528, 16), ("uint8", "int8")),
        ((0, 16, 16), (0, 10**6, 16, 16), ("uint8", "int8")),
        ((6, 0, 32), (6, 3, 0, 32), ("uint8", "int8")),
        ((6, 48, 32), (5, 3, 48, 32), ("uint8", "int8")),
        ((6, 48, 32), (6, 3, 32, 48), ("uint8", "int8")),
        ((6, 48), (6, 3, 48), ("uint8", "int8")),
        ((6, 48, 32), (6, 3, 48, 32), ("uint8", "float32")),
        ((6, 48, 32), (6, 3, 48, 32), ("object", "int8")),
    ],
)
def test_brains_that_ask_for_a_huge_network_or_for_none_are_refused(model, mean, differences, kinds, monkeypatch):
    path = model.folder / "brains.npz"
    np.savez_compressed(path, mean=np.zeros(mean, kinds[0]), differences=np.zeros(differences, kinds[1]))
    found = replaced_with_right_hash(model, "brains.npz", path.read_bytes())
    for kind in ("vae.VAE", "gan.GAN"):
        monkeypatch.setattr(f"MedInpaintLib.models.{kind}", never)
    refused(lambda: network_of(found), "weights", "mine")


def nifti_with(model, change):
    """The template's file with its header changed."""
    content = bytearray(zlib.decompress((model.folder / TEMPLATE).read_bytes(), wbits=31))
    change(content)
    return zlib.compress(bytes(content), wbits=31)


def claim_sides(sides):
    def change(content):
        content[40:56] = np.array([len(sides), *sides, *[1] * (7 - len(sides))], "<i2").tobytes()

    return change


def claim_floats(content):
    content[70:74] = np.array([16, 32], "<i2").tobytes()
    content.extend(bytes(6 * 48 * 32 * 3))


@any_kind
@pytest.mark.parametrize(
    "change",
    [
        claim_sides((32767, 32767, 32767)),
        claim_sides((513, 1, 1)),
        claim_sides((32, 48)),
        claim_sides((32, 48, 3, 2)),
        claim_floats,
        lambda content: content.clear(),
        lambda content: content.extend(bytes(10**6)),
    ],
    ids=["huge", "long", "2-D", "4-D", "floats", "empty", "bomb"],
)
def test_a_template_that_is_no_small_volume_of_bytes_is_refused_unread(model, change, monkeypatch):
    content = nifti_with(model, change)
    monkeypatch.setattr(folder, "LARGEST_CONTENT", 10**6)
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", never)
    found = replaced_with_right_hash(model, TEMPLATE, content)
    refused(found.template, "template", "mine")


@any_kind
@pytest.mark.parametrize("packed", [True, False])
def test_a_template_in_another_format_which_may_name_other_files_is_refused(model, packed, tmp_path):
    (tmp_path / "secret.raw").write_bytes(bytes(8))
    lines = ("NRRD0004", "type: uchar", "dimension: 3", "sizes: 2 2 2", "encoding: raw", "data file: ../secret.raw")
    content = "\n".join(lines).encode() + b"\n"
    found = replaced_with_right_hash(model, TEMPLATE, zlib.compress(content, wbits=31) if packed else content)
    refused(found.template, "template", "mine")


def test_the_bounds_leave_room_for_models_four_times_as_large_as_those_shipped():
    shared = [folder.models_folder() / name for name in folder.SHARED]
    with zipfile.ZipFile(shared[0]) as archive:
        assert 4 * sum(part.file_size for part in archive.infolist()) <= folder.LARGEST_CONTENT
    for model in shipped_models():
        assert 4 * (model.folder / "card.json").stat().st_size <= folder.LARGEST_CARD
        assert 4 * max(path.stat().st_size for path in (*model.folder.iterdir(), *shared)) <= folder.LARGEST_FILE
        assert 4 * max(model.card["grid"]["size"]) <= folder.LARGEST_SIDE
        assert 4 * len(model.card["training_subjects"]) <= folder.LARGEST_COUNT


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 5000, "a\0b"], ids=["long name", "long path", "null"])
def test_an_impossible_file_name_is_no_model(name):
    refused(lambda: find_model(name), "There is no model")


@pytest.mark.parametrize("name", ["no such model", "", "linear/", "../Models/linear"])
def test_for_an_unknown_model_the_message_lists_the_known_ones(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = [model.name for model in shipped_models()]
    assert shipped
    refused(lambda: find_model(name), name, *shipped)


def test_a_folder_without_a_card_is_no_model(tmp_path):
    refused(lambda: find_model(str(tmp_path)), str(tmp_path))


@pytest.mark.parametrize("model", shipped_models(), ids=lambda model: model.name)
def test_a_shipped_model_is_whole_small_and_says_where_it_comes_from(model):
    files = [*model.folder.iterdir(), *(folder.models_folder() / name for name in folder.SHARED)]
    assert sum(file.stat().st_size for file in files) <= 15e6
    assert len({file.name for file in files}) == len(files)  # no copy of a shared file
    assert model.card["data"]["licence"]
    assert "doi" in model.card["data"]["citation"]
    names = (model.card["training_subjects"], model.card["validation"]["subjects"])
    trained, validated = (set(re.findall(r"sub-\d+", " ".join(part))) for part in names)
    assert trained
    assert validated
    assert not trained & validated
    template = model.template()
    assert list(template.image.GetSize()) == model.card["grid"]["size"]
    image, brain = (sitk.GetArrayFromImage(part) for part in (template.image, template.brain))
    assert ((image > 0) == (brain > 0)).all()
    assert np.percentile(image[brain > 0], [50, 98]).round(1) == pytest.approx([0.6, 0.8], abs=0.2)
    with torch.no_grad():
        middle = network_of(model).generate(torch.zeros(1, model.card["latent"]), torch.tensor([0.5]))
    inside = brain[len(brain) // 2] > 0
    assert np.corrcoef(middle[0, 0].numpy()[inside], image[len(brain) // 2][inside])[0, 1] > 0.8
