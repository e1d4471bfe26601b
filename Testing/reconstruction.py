"""How well each model shows whole brains that it never saw: the latent search of the study on slices without a hole.

    python Testing/reconstruction.py ds002748/sub-55_T1w.nii.gz ds000011/sub-01_T1w.nii.gz

It prints, for each scan and model, the median PSNR in the brain (dB; the peak is model intensity 1) over slices from
25 % to 75 % of the model's height, and the seconds per slice. All known pixels weigh alike, each slice is searched
alone for 200 steps, and nothing is added to G(z).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MedInpaintLib.evaluation.holes.subjects import Subject, read_subject
from MedInpaintLib.models.registry import shipped_models
from MedInpaintLib.search.device import choose_device
from MedInpaintLib.search.latent import search
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.intensities import intensity_scale
from MedInpaintLib.space.slices import Slices, mask_unknown, to_model_grid
from MedInpaintLib.space.template import Template
from MedInpaintLib.volumes.image import scan_values


def known_slices(subject: Subject, template: Template, count: int) -> tuple[Slices, np.ndarray]:
    """So many slices of the subject in model space, without a hole; and where their brain is, bool (n, h, w)."""
    everywhere = np.ones(subject.brain.shape, bool)
    values = scan_values(subject.scan, ~everywhere)
    image, _ = to_model_grid(subject.scan, values, everywhere, template.image, subject.alignment.transform)
    image /= intensity_scale(values, subject.alignment.brain)
    nothing = np.zeros(image.shape, bool)
    image, unknown, context = mask_unknown(image, nothing, ~nothing, template, slice(None), subject.alignment.extracted)
    heights = np.linspace(0.25 * len(image), 0.75 * len(image), count).astype(int)
    brain = context & (sitk.GetArrayViewFromImage(template.brain) > 0)
    parts = (array[heights] for array in (image, nothing, unknown, context))
    return Slices(*parts, heights, scale=1.0), brain[heights]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="+", type=Path, help="healthy brains")
    parser.add_argument("--slices", type=int, default=8, help="of each brain (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    arguments = parser.parse_args()
    settings = Settings.preset("study", weighting=False)
    models = shipped_models()
    template = models[0].template()
    networks = {model.name: model.network(choose_device(arguments.device)) for model in models}
    print("| scan |", " | ".join(networks), "|")
    print("|---" * (len(networks) + 1) + "|")
    for path in arguments.scans:
        slices, brain = known_slices(read_subject(path, template), template, arguments.slices)
        cells = []
        for network in networks.values():
            started = time.perf_counter()
            found, _ = search(network, slices, template.image.GetSize()[2], settings, lambda done, message: None)
            seconds = (time.perf_counter() - started) / len(slices.heights)
            errors = [
                np.mean((a - b)[inside] ** 2) for a, b, inside in zip(found.slices, slices.image, brain, strict=True)
            ]
            cells.append(f"{np.median(-10 * np.log10(errors)):.1f} ({seconds:.1f} s)")
        print(f"| {path.parent.name} {path.name.split('_')[0]} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
