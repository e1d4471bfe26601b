"""The derivatives as BIDS wants them: the description of the dataset, and the sidecar of each image."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from .. import __version__
from ..errors import InputError
from ..volumes.write import replacing
from .scans import Results

BIDS_VERSION = "1.10.0"
CODE = "https://github.com/MedInpaint/SlicerMedInpaint"
IGNORED = "*.html\ngroup_*\nlogs\nsub-*/figures\n"  # files that BIDS does not know
README = """# Brain scans with filled lesions

MedInpaint replaced the lesions in these scans by tissue that a healthy brain could have there.
The fill is plausible, not true: never read it as the anatomy of a patient. Voxels outside of the lesions are those of
the original scans. For research only.

- `*_desc-lesionfilled_*`: the filled scan. Its JSON file has the settings and measurements.
- `*_label-lesion_desc-filled*_mask`: the voxels that were filled.
- `*_desc-uncertainty_*`: the standard deviation of the fill, in intensities of the scan.
- `sub-*.html`: a report for each participant; `group_report.html` and `group_lesions.tsv`: all participants.
- `logs/failures`: why scans were not filled.
"""


def start_dataset(output: Path, folders: Mapping[str, Path]) -> None:
    """Make the output folder and the files at its top.

    Args:
        output: the folder of the derivatives.
        folders: the datasets that the results come from, "raw" among them, by the names in their BIDS URIs.

    Raises:
        InputError: the folder cannot be made or written to, or holds something else.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        about = _read(output / "dataset_description.json")
    except OSError as error:
        raise InputError(f"The folder '{output}' cannot be made or read: choose another.") from error
    except ValueError as error:
        raise InputError(
            f"'{output.name}' has a dataset_description.json that is damaged: remove that file."
        ) from error
    if about and about.get("DatasetType") != "derivative":
        raise InputError(f"'{output.name}' holds a dataset of another kind: choose another folder for the results.")
    try:
        raw = _read(folders["raw"] / "dataset_description.json")
    except (OSError, ValueError):
        raw = {}
    inherited = {key: raw[key] for key in ("Authors", "License") if raw.get(key)}
    links = about.get("DatasetLinks", {}) | {name: _link(folder, output) for name, folder in folders.items()}
    content = {
        "Name": f"Brain scans with filled lesions: {raw.get('Name', 'unnamed dataset')}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        **inherited,
        "GeneratedBy": [{"Name": "MedInpaint", "Version": __version__, "CodeURL": CODE}],
        "SourceDatasets": [{"URL": links["raw"]}],
        "DatasetLinks": links,
    }
    write_json(output / "dataset_description.json", content)
    write_text(output / ".bidsignore", IGNORED)
    write_text(output / "README.md", README)


def image_sidecar(results: Results, report: dict, fingerprint: str, together: Sequence[str] = ()) -> dict:
    """The JSON of the filled scan: its sources, the settings and the measurements.

    Args:
        results: of this scan.
        report: of the run.
        fingerprint: see `resume.fingerprint`.
        together: the contrasts that were filled with one anatomy, this one among them; empty if it was alone.
    """
    return {
        "Description": "The scan with its lesions filled by MedInpaint. The fill is plausible, not true.",
        "Sources": list(results.scan.sources),
        "SkullStripped": report["alignment"]["brain_extracted"],
        "MedInpaint": {"Fingerprint": fingerprint, "FilledTogether": list(together), "Report": report},
    }


def mask_sidecar(results: Results) -> dict:
    """The JSON of the mask of filled voxels."""
    return {
        "Description": "The voxels that MedInpaint filled.",
        "Sources": list(results.scan.sources),
        "Type": "Lesion",
        "SpatialReference": results.scan.sources[0],
    }


def uncertainty_sidecar(results: Results, report: dict) -> dict:
    """The JSON of the standard deviation."""
    return {
        "Description": "The standard deviation of the fill in intensities of the scan, 0 outside of the lesions.",
        "Sources": list(results.scan.sources),
        "SkullStripped": report["alignment"]["brain_extracted"],
    }


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file completely or not at all. Raises InputError if that fails."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all. Raises InputError if that fails."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _link(folder: Path, output: Path) -> str:
    """The URI of a folder, relative to the output if they are on one drive: both can then be moved together."""
    try:
        return quote(Path(os.path.relpath(folder.resolve(), output.resolve())).as_posix())
    except ValueError:  # another drive of Windows
        return folder.resolve().as_uri()
