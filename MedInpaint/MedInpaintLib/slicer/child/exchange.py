"""What application and child exchange: the volumes in files, the settings as options of `medinpaint run`."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
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


def write_inputs(folder: Path, image: sitk.Image, mask: sitk.Image) -> None:
    """Write scan and mask for the child, exactly, but without their metadata, which may name the patient.

    Raises:
        RuntimeError: they cannot be written.
    """
    import SimpleITK as sitk

    for volume, name in ((image, SCAN), (mask, MASK)):
        plain = sitk.Image(volume)
        plain.MakeUnique()  # the copy shares its metadata with the original until then
        for key in plain.GetMetaDataKeys():
            plain.EraseMetaData(key)
        sitk.WriteImage(plain, str(folder / name), useCompression=False)


def files(settings: Settings) -> list[str]:
    """The first arguments of the child: `run` and the files that it reads and writes, in its working directory.

    The names are relative: on Windows, ITK in the child cannot open a path that is not ASCII, such as that of a
    temporary folder below the user's name.
    """
    names = ["run", SCAN, MASK, FILLED, f"--generated={GENERATED}", f"--report={REPORT}"]
    return [*names, f"--uncertainty={UNCERTAINTY}"] if settings.residual else names


def arguments(settings: Settings) -> list[str]:
    """The options of `medinpaint run` that give these settings, without those that have their default.

    The command refuses a window without weighting and a prior weight without a prior. There these two have no effect,
    so they are omitted.
    """
    default = Settings()
    if os.path.isdir(settings.model):  # the child has another working directory
        settings = replace(settings, model=os.path.abspath(settings.model))
    changed = {
        field.name: getattr(settings, field.name)
        for field in fields(Settings)
        if getattr(settings, field.name) != getattr(default, field.name)
    }
    if not settings.weighting:
        changed.pop("window", None)
    if not settings.prior:
        changed.pop("prior_weight", None)
    options = []
    for name, value in changed.items():
        option = name.replace("_", "-")
        no = value is False or (name == "blending" and value == "none")
        # With "=", a value that begins with "-" is not mistaken for an option.
        options.append(f"--no-{option}" if no else f"--{option}" if value is True else f"--{option}={value}")
    return options


def read_result(folder: Path, image: sitk.Image) -> Result:
    """The result that the child wrote for this scan.

    Raises:
        Exception: files are missing, damaged or from another scan.
    """
    import SimpleITK as sitk

    from ...pipeline import Result
    from ...volumes.image import like
    from ...volumes.read import read_image

    filled, generated = (read_image(folder / name) for name in (FILLED, GENERATED))
    uncertainty = read_image(folder / UNCERTAINTY) if (folder / UNCERTAINTY).exists() else None
    if filled.GetPixelID() != image.GetPixelID():
        raise ValueError("the result has another pixel type than the scan")
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    for name in ("image", "mask"):  # names of temporary files
        report.pop(name, None)
    return Result(like(image, sitk.GetArrayFromImage(filled)), generated, uncertainty, report)
