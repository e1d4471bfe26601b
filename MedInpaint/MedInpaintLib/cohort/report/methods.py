"""The paragraph about the fill for the methods of a paper, from the report of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ...models.folder import WEIGHTS
from ...settings import Settings

REFERENCES = (
    "Yeh et al. 2017, Semantic Image Inpainting with Deep Generative Models, CVPR.",
    "Bezmaternykh et al. 2021, Neural Plasticity 8846097; OpenNeuro ds002748, "
    "doi 10.18112/openneuro.ds002748.v1.0.5 (training data).",
    "Gorgolewski et al. 2016, The brain imaging data structure, Scientific Data 3:160044.",
)
BLENDINGS = {
    "matern": "a smooth correction near the border joined it to the scan",
    "3d": "Poisson's equation in the volume joined it to the scan",
    "2d": "Poisson's equation, slice by slice, joined it to the scan",
    "none": "it was pasted without blending",
}


@dataclass(frozen=True)
class Methods:
    """Text, references, and all settings as JSON."""

    text: str
    references: tuple[str, ...]
    settings: str


def describe(report: dict) -> Methods:
    """The methods of the run with this report."""
    settings, versions = report["settings"], report["versions"]
    defaults = Settings().to_dict()
    changed = {key: value for key, value in settings.items() if key != "device" and value != defaults[key]}
    several = "together" in report
    grown = f", enlarged by {settings['grow']:g} mm," if settings["grow"] else ""
    steps = [
        f"Lesions were filled with MedInpaint {versions['medinpaint']} (model {report['model']['name']}, weights "
        f"{report['model']['sha256'][WEIGHTS][:12]}; PyTorch {versions['torch']}, SimpleITK {versions['SimpleITK']}).",
        "Each scan was aligned with the model's template."
        if not several
        else "The first scan of each session was aligned with the model's template, and its other contrasts were "
        "registered to it rigidly.",
        f"The lesion mask{grown} was left out, and the latent space of the generative model was searched for the "
        "brain that agrees with the surroundings of the lesions"
        + (" in all contrasts of the session" if several else "")
        + " (Yeh et al. 2017).",
    ]
    if settings["residual"]:
        steps.append("The difference between scan and generated brain was continued into the lesions by kriging.")
    steps.append(f"The result replaced the voxels of the mask; {BLENDINGS[settings['blending']]}.")
    steps.append("All other voxels kept their values.")
    listed = ", ".join(f"{key} = {value}" for key, value in changed.items())
    steps.append(f"Settings other than the defaults: {listed}." if changed else "All settings were the defaults.")
    return Methods(" ".join(steps), REFERENCES, json.dumps(settings, indent=2))
