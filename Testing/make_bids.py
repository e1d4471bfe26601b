"""Make a small BIDS dataset of real scans, to try `medinpaint bids`:

python Testing/make_bids.py FOLDER_OF_DATA OUTPUT

FOLDER_OF_DATA holds ds002748, ds000011 and 3d-mr-ms as the evaluation uses them. Two patients have their own lesions
and a session each, with T1w, T2w and FLAIR; four healthy people get a made-up lesion, darker than its surroundings; one
has a FLAIR scan alone and one has no mask, so that the reports also show scans that are not filled.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

RADII = (9.0, 12.0, 8.0)  # mm of the made-up lesion
DARKER = 0.55
AUTHORS = ["Lesjak et al.", "Bezmaternykh et al.", "Foerde et al."]
LICENCES = "CC0 (ds002748), PDDL 1.0 (ds000011), CC-BY (3D-MR-MS)"
SOURCES = [
    {"URL": "https://openneuro.org/datasets/ds002748", "DOI": "doi:10.18112/openneuro.ds002748.v1.0.5"},
    {"URL": "https://openneuro.org/datasets/ds000011"},
    {"URL": "https://doi.org/10.1007/s12021-017-9348-7"},
]


def main() -> None:
    """Write the dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="FOLDER_OF_DATA")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    args = parser.parse_args()
    about = {"DatasetType": "raw", "SourceDatasets": SOURCES, "GeneratedBy": [{"Name": "Testing/make_bids.py"}]}
    describe(args.output, about)
    describe(
        args.output / "derivatives" / "manual",
        {
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "experts, and made-up lesions"}],
            "DatasetLinks": {"raw": "../.."},
            "SourceDatasets": [{"URL": "../.."}],
        },
    )
    for patient in ("07", "26"):
        source = args.data / "3d-mr-ms"
        scan = sitk.ReadImage(str(source / f"patient{patient}_T1.nii.gz"))
        mask = sitk.ReadImage(str(source / "masks" / f"patient{patient}_consensus.nii.gz"))
        save(args.output, f"sub-ms{patient}_ses-1", scan, sitk.Cast(mask > 0, sitk.sitkUInt8))
        for contrast, suffix in (("T2", "T2w"), ("FLAIR", "FLAIR")):
            further = sitk.ReadImage(str(source / f"patient{patient}_{contrast}.nii.gz"))
            save(args.output, f"sub-ms{patient}_ses-1", further, None, suffix)
    for dataset, label in (("ds002748", "55"), ("ds002748", "56"), ("ds000011", "01"), ("ds000011", "02")):
        scan = sitk.ReadImage(str(args.data / dataset / f"sub-{label}_T1w.nii.gz"))
        save(args.output, f"sub-{dataset[-2:]}h{label}", *with_lesion(scan))
    flair = sitk.ReadImage(str(args.data / "3d-mr-ms" / "patient07_FLAIR.nii.gz"))
    save(args.output, "sub-flairalone", flair, None, "FLAIR")
    save(args.output, "sub-nomask", sitk.ReadImage(str(args.data / "ds002748" / "sub-57_T1w.nii.gz")), None)


def with_lesion(scan: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
    """The scan with a dark ellipsoid 25 mm to the left of the middle of the head, and the mask of it."""
    values = sitk.GetArrayFromImage(scan)
    head = np.argwhere(values > 0.3 * np.percentile(values[values > 0], 99))
    middle = np.add(scan.TransformContinuousIndexToPhysicalPoint(head.mean(axis=0)[::-1].tolist()), (25, 0, 15))
    grid = np.indices(values.shape)[::-1].reshape(3, -1)
    axes = np.reshape(scan.GetDirection(), (3, 3)) * scan.GetSpacing()
    distance = (axes @ grid + np.reshape(scan.GetOrigin(), (3, 1)) - middle[:, None]) / np.reshape(RADII, (3, 1))
    lesion = (np.linalg.norm(distance, axis=0) <= 1).reshape(values.shape)
    values[lesion] = (values[lesion] * DARKER).astype(values.dtype)
    images = [sitk.GetImageFromArray(array) for array in (values, lesion.astype(np.uint8))]
    for image in images:
        image.CopyInformation(scan)
    return images[0], images[1]


def save(output: Path, stem: str, scan: sitk.Image, mask: sitk.Image | None, suffix: str = "T1w") -> None:
    """Write the scan, and the mask as a derivative."""
    place = Path(*(part for part in stem.split("_")), "anat")
    for root, image, end in (
        (output, scan, suffix),
        (output / "derivatives" / "manual", mask, "space-orig_label-lesion_mask"),
    ):
        if image is not None:
            (root / place).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(root / place / f"{stem}_{end}.nii.gz"))
    if mask is not None:
        source = f"bids:raw:{(place / stem).as_posix()}_{suffix}.nii.gz"
        write_json(
            output / "derivatives" / "manual" / place / f"{stem}_space-orig_label-lesion_mask.json",
            {"Description": "Lesions.", "Type": "Lesion", "SpatialReference": source, "Sources": [source]},
        )


def describe(folder: Path, more: dict) -> None:
    """The description of a dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"Name": "Real scans for a trial", "BIDSVersion": "1.10.0", "Authors": AUTHORS, "License": LICENCES, **more}
    write_json(folder / "dataset_description.json", about)
    (folder / "README.md").write_text(__doc__, encoding="utf-8")


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
