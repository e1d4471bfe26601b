"""The last step of every training: validate the network and write the model's folder."""

from __future__ import annotations

import time
from pathlib import Path

from ..models.folder import Model, save_model
from ..models.latent_model import LatentModel
from ..space.intensities import INTENSITY_RULE
from .samples import save_samples
from .slices.data import SliceData
from .validation import validate


def export(network: LatentModel, folder: Path, data: SliceData, card: dict) -> Model:
    """Write a model's folder, with samples from the prior and the validation on the tuning subjects.

    Args:
        network: the trained network; its weights are rounded to half precision, as they are stored.
        folder: of the model.
        data: the slices.
        card: kind and training; the rest of the card is added.
    """
    network.load_state_dict({name: tensor.half().to(tensor.dtype) for name, tensor in network.state_dict().items()})
    network.requires_grad_(False).eval()
    started = time.perf_counter()
    print(f"filling round holes in {len(data.tuning)} tuning subjects, for the card (minutes)", flush=True)
    validation = validate(network, data)
    model = save_model(
        folder,
        network,
        data.template,
        {
            "latent": network.latent,
            "grid": {"size": data.template.image.GetSize(), "spacing_mm": data.template.image.GetSpacing()},
            "intensity": INTENSITY_RULE,
            "template": f"average of {len(data.training)} aligned training brains, left-right symmetric",
            "data": data.source,
            "training_subjects": data.training_subjects,
            **card,
            "validation": {**validation, "seconds": round(time.perf_counter() - started, 1)},
        },
    )
    save_samples(network, model.folder)
    return model
