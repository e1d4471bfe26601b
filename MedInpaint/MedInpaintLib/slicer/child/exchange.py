"""What application and child exchange: an order as a line of JSON, the volumes in files of one folder.

Further scans of the same head have a folder each in the folder of the first scan, with files of the same names.

The child works in the folder of the first scan and opens its files by these names: on Windows, ITK in the child cannot
open a path that is not ASCII, such as that of a temporary folder below the user's name.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...settings import Settings

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ...pipeline import Result

# MetaImage keeps spacing, direction and origin exactly. NRRD stores spacing times direction, and NIfTI 32-bit numbers:
# both change the last digits.
SCAN, MASK, FILLED, GENERATED, UNCERTAINTY = (
    f"{name}.mha" for name in ("scan", "mask", "filled", "generated", "uncertainty")
)
REPORT = "report.json"
EXTRAS = {"generated": GENERATED, "uncertainty": UNCERTAINTY}  # volumes of a Result that are sent if asked for


def further_folders(count: int) -> list[str]:
    """The names of the folders of so many further scans: 2, 3, ..."""
    return [str(n) for n in range(2, count + 2)]


def write_inputs(folder: Path, image: sitk.Image, mask: sitk.Image, further: Sequence[sitk.Image] = ()) -> None:
    """Write scans and mask for the child, exactly, but without their metadata, which may name the patient.

    Raises:
        OSError, RuntimeError: they cannot be written.
    """
    import SimpleITK as sitk

    names = further_folders(len(further))
    for name in names:
        (folder / name).mkdir()
    files = [(scan, f"{name}/{SCAN}") for scan, name in zip(further, names, strict=True)]
    for volume, name in ((image, SCAN), (mask, MASK), *files):
        plain = sitk.Image(volume)
        plain.MakeUnique()  # the copy shares its metadata with the original until then
        for key in plain.GetMetaDataKeys():
            plain.EraseMetaData(key)
        sitk.WriteImage(plain, str(folder / name), useCompression=False)


def remove_folder(folder: tempfile.TemporaryDirectory) -> None:
    """Remove the folder of a run. The child may have ended a moment ago."""
    folder.cleanup()
    for _ in range(3):  # on Windows, files stay locked for a moment after their process has ended
        if not os.path.exists(folder.name):
            return
        time.sleep(0.1)
        shutil.rmtree(folder.name, ignore_errors=True)


def model_path(model: str) -> str:
    """The name of a model, or the path of its folder as the child, which has another working directory, finds it."""
    return os.path.abspath(model) if os.path.isdir(model) else model


def order(folder: Path, settings: Settings, further: int = 0, extras: Collection[str] = ()) -> bytes:
    """The line that tells the child to fill the scan in a folder, together with so many further ones.

    `extras` names volumes of each result, of EXTRAS, that are sent besides the filled scan.
    """
    settings = replace(settings, model=model_path(settings.model))
    told = {"folder": str(folder), "settings": settings.to_dict(), "also": further_folders(further)}
    return json.dumps({**told, "extras": list(extras)}).encode() + b"\n"


def read_order(line: str) -> tuple[Path, Settings, list[str], list[str]]:
    """The folder and the settings of an order, the names of the folders of further scans, and the extras."""
    told = json.loads(line)
    return Path(told["folder"]), Settings(**told["settings"]), told["also"], told["extras"]


def write_result(folder: Path, result: Result, extras: Collection[str]) -> None:
    """Write the result and its extras for the application, the report last.

    Raises:
        RuntimeError, OSError: it cannot be written.
    """
    import SimpleITK as sitk

    volumes = {FILLED: result.image, **{EXTRAS[name]: getattr(result, name) for name in extras}}
    for name, image in volumes.items():
        if image is not None:  # without the residual there is no uncertainty
            sitk.WriteImage(image, str(folder / name), useCompression=False)
    (folder / REPORT).write_text(json.dumps(result.report, allow_nan=False), encoding="utf-8")


def read_results(folder: Path, images: Sequence[sitk.Image], extras: Collection[str]) -> list[Result]:
    """The results that the child wrote for these scans, the first one first.

    Raises:
        Exception: files are missing, damaged or from another scan.
    """
    folders = [folder, *(folder / name for name in further_folders(len(images) - 1))]
    return [read_result(each, image, extras) for each, image in zip(folders, images, strict=True)]


def read_result(folder: Path, image: sitk.Image, extras: Collection[str]) -> Result:
    """The result that the child wrote for one scan, in the folder of that scan.

    Raises:
        Exception: files are missing, damaged or from another scan.
    """
    import SimpleITK as sitk

    from ...pipeline import Result
    from ...volumes.image import like
    from ...volumes.read import read_image

    filled, uncertainty, generate = read_image(folder / FILLED), None, None
    if "generated" in extras:
        generated = read_image(folder / GENERATED)
        generate = lambda: generated  # noqa: E731
    if "uncertainty" in extras and (folder / UNCERTAINTY).exists():
        uncertainty = read_image(folder / UNCERTAINTY)
    if filled.GetPixelID() != image.GetPixelID():
        raise ValueError("the result has another pixel type than the scan")
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    report["lesion"]  # so that something else is refused
    return Result(like(image, sitk.GetArrayFromImage(filled)), uncertainty, report, generate=generate)
