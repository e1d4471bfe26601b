"""The bridge to Qt: the engine in a child process, so that the application stays usable and a run can be cancelled.

A process rather than a thread: it can be ended at any moment, and all memory, the GPU's too, is then free again.

Of Qt only what PythonQt (Slicer) and PySide6 (the tests) spell alike is used: methods rather than properties, new-style
connections, and handlers without arguments, so that neither overloads nor the types of signals' arguments matter.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ...settings import Settings

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ...pipeline import Result

# MetaImage keeps spacing, direction and origin as they are. NRRD stores spacing times direction and NIfTI 32-bit
# numbers, which moves a result in its last digits.
SCAN, MASK, FILLED, GENERATED, UNCERTAINTY = (
    f"{name}.mha" for name in ("scan", "mask", "filled", "generated", "uncertainty")
)
REPORT = "report.json"


def _files(folder: Path, settings: Settings) -> list[str]:
    files = ["run", *(str(folder / name) for name in (SCAN, MASK, FILLED))]
    files += [f"--generated={folder / GENERATED}", f"--report={folder / REPORT}"]
    return [*files, f"--uncertainty={folder / UNCERTAINTY}"] if settings.residual else files


def arguments(settings: Settings) -> list[str]:
    """The options of `medinpaint run` that give these settings; what has its default is left out.

    The command takes no window without weighting and no prior weight without a prior: there they are left out, as
    they have no effect.
    """
    default = Settings()
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
        # Joined by "=", a value that begins with "-" is not taken for an option.
        options.append(f"--no-{option}" if no else f"--{option}={value}")
    return options


def write_inputs(folder: Path, image: sitk.Image, mask: sitk.Image) -> None:
    """Write scan and mask for the child, exactly, but for their metadata: it may name the patient.

    Raises:
        RuntimeError: they cannot be written.
    """
    import SimpleITK as sitk

    for volume, name in ((image, SCAN), (mask, MASK)):
        plain = sitk.Image(volume)
        plain.MakeUnique()  # else the caller's image would lose its metadata too
        for key in plain.GetMetaDataKeys():
            plain.EraseMetaData(key)
        sitk.WriteImage(plain, str(folder / name), useCompression=False)


def read_result(folder: Path, image: sitk.Image) -> Result:
    """What the child has written for this scan.

    Raises:
        Exception: files are missing, damaged or not of this scan.
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
    for name in ("image", "mask"):  # the temporary files' names
        report.pop(name, None)
    return Result(like(image, sitk.GetArrayFromImage(filled)), generated, uncertainty, report)
