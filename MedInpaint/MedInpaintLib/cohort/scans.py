"""One scan of a BIDS dataset, its mask, and the names of its results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

EXTENSIONS = (".nii.gz", ".nii")
IN_SCAN_SPACE = ("orig", "T1w")  # values of `space` that mean the space of the scan, beside the scan's own suffix


@dataclass(frozen=True)
class Scan:
    """A scan that is to be filled, or the reason why it cannot be.

    Attributes:
        participant: the label without "sub-".
        session: the label without "ses-"; None if the dataset has no sessions.
        place: the folder of the scan in its dataset, such as "sub-01/ses-1/anat".
        stem: what the names of all results start with, such as "sub-01_ses-1_run-1".
        suffix: the contrast, such as "T1w".
        image, mask: the files; None if there is a problem.
        sources: BIDS URIs of the image and of the mask, and of the scans that are filled together with it.
        also: further scans of the session, filled together with this one, which leads. They have its mask.
        missing: contrasts that were asked for and that the session does not have.
        problem: a sentence that says why the scan cannot be filled; empty if it can.
    """

    participant: str
    session: str | None
    place: str
    stem: str
    suffix: str
    image: Path | None = None
    mask: Path | None = None
    sources: tuple[str, ...] = ()
    also: tuple[Scan, ...] = ()
    missing: tuple[str, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        """What messages and logs call the scan. No two scans have the same name."""
        return f"{self.stem}_{self.suffix}"

    @property
    def together(self) -> tuple[Scan, ...]:
        """This scan and the further ones."""
        return self, *self.also


@dataclass(frozen=True)
class Results:
    """The files of a filled scan in the output folder. The sidecar of the image is written last."""

    folder: Path
    scan: Scan

    @property
    def together(self) -> tuple[Results, ...]:
        """The results of this scan and of the further ones that are filled together with it."""
        return tuple(Results(self.folder, scan) for scan in self.scan.together)

    @property
    def image(self) -> Path:
        """The filled scan."""
        return self._anat(f"desc-lesionfilled_{self.scan.suffix}.nii.gz")

    @property
    def mask(self) -> Path:
        """The voxels that were filled, on the scan's grid."""
        space = "" if "_space-" in self.scan.stem else "space-orig_"
        contrast = "" if self.scan.suffix == "T1w" else self.scan.suffix
        return self._anat(f"{space}label-lesion_desc-filled{contrast}_mask.nii.gz")

    @property
    def uncertainty(self) -> Path:
        """The standard deviation of the fill, written on request."""
        return self._anat(f"desc-uncertainty_{self.scan.suffix}.nii.gz")

    @property
    def section(self) -> Path:
        """The scan's part of the participant's report, HTML with its pictures inside."""
        return self._figure("section.html")

    @property
    def thumbnail(self) -> Path:
        """A small picture for the report of the group."""
        return self._figure("thumbnail.png")

    @property
    def staging(self) -> Path:
        """A folder in which the files are made, those of further scans, too; on the same disk as the results."""
        return self.folder / "logs" / "unfinished" / self.scan.name

    @property
    def lock(self) -> Path:
        """A file that is locked while a process writes these results."""
        return self.folder / "logs" / "locks" / f"{self.scan.name}.lock"

    @property
    def failure(self) -> Path:
        """Says why the scan was not filled. It is there only if the last attempt failed."""
        return self.folder / "logs" / "failures" / f"{self.scan.name}.json"

    def _anat(self, end: str) -> Path:
        return self.folder.joinpath(*PurePosixPath(self.scan.place).parts, f"{self.scan.stem}_{end}")

    def _figure(self, end: str) -> Path:
        return self.folder / f"sub-{self.scan.participant}" / "figures" / f"{self.scan.name}_{end}"


def sidecar(path: Path) -> Path:
    """The JSON file beside a NIfTI file."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def entities_of(name: str) -> dict[str, str]:
    """The entities in the name of a BIDS file, as they are written: {"sub": "01", "run": "02", ...}."""
    parts = (part.partition("-") for part in name.split("_")[:-1])
    return {key: value for key, dash, value in parts if dash}
