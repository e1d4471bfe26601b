"""The settings: a wrong value is one clear sentence, a right one survives the way through JSON."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from MedInpaintLib.errors import InputError
from MedInpaintLib.settings import BLENDINGS, DEVICES, Settings

WRONG = [
    ("device", "gpu", "cuda"),
    ("device", "", "auto"),
    ("blending", "4d", "none"),
    ("blending", None, "matern"),
    ("iterations", -1, "-1"),
    ("grow", -0.1, "-0.1"),
    ("grow", 10.5, "10.5"),
    ("prior_weight", -0.5, "-0.5"),
    ("prior_weight", float("nan"), "nan"),
    ("prior_weight", float("inf"), "inf"),
    ("window", 1, "1"),
    ("window", 24, "24"),
    ("window", -7, "-7"),
    ("label", 0, "background"),
    ("seed", -1, "-1"),
]


@pytest.mark.parametrize(("field", "value", "said"), WRONG)
def test_a_wrong_value_is_refused_in_one_sentence_that_says_what_is_right(field, value, said):
    with pytest.raises(InputError) as refusal:
        Settings(**{field: value})
    sentence = str(refusal.value)
    assert said in sentence
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_wrong_value_is_also_refused_in_a_changed_copy():
    with pytest.raises(InputError):
        replace(Settings(), window=8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("blending", BLENDINGS)
def test_settings_survive_the_way_through_json(device, blending):
    settings = Settings(
        model="some folder/é",
        device=device,
        blending=blending,
        label=-2,
        grow=1.5,
        iterations=0,
        prior_weight=0.0,
        window=3,
        weighting=False,
        prior=False,
        residual=False,
        noise=True,
        seed=2**40,
    )
    assert Settings(**json.loads(json.dumps(settings.to_dict()))) == settings


def test_the_defaults_differ_from_a_changed_copy_in_the_changed_field_only():
    changed = replace(Settings(), iterations=7).to_dict()
    assert {name for name, value in Settings().to_dict().items() if changed[name] != value} == {"iterations"}


def test_settings_do_not_change_under_a_run():
    settings = Settings()
    with pytest.raises(FrozenInstanceError):
        settings.seed = 1
    settings.to_dict()["seed"] = 1
    assert settings.seed == 0
