"""Pairs of a scan and its lesion: all of the scene, or all of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ...errors import InputError
from . import nodes, results
from .images import is_scalar_volume
from .results import REFERENCE_GEOMETRY

LESION_WORDS = "lesion", "mask", "hole", "label"  # a file with one of these in the last part of its name is a lesion
FILLED = "_inpainted.nii.gz"


@dataclass(frozen=True)
class ScenePair:
    """A scan and its lesion in the scene: nodes, or None for a scan that is not known."""

    scan: slicer.vtkMRMLScalarVolumeNode | None
    lesion: slicer.vtkMRMLNode

    @property
    def names(self) -> tuple[str, str]:
        """What the table shows."""
        return self.scan.GetName() if self.scan else "", self.lesion.GetName()

    def load(self) -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLNode]:
        """The nodes. Raises InputError if there is no scan."""
        if self.scan is None:
            raise InputError(_("It is not known which scan this lesion belongs to: begin its name with the scan's."))
        return self.scan, self.lesion

    def finish(self, result: slicer.vtkMRMLNode | None) -> None:
        """The result stays in the scene."""


@dataclass
class FilePair:
    """A scan and its lesion in files of a folder; None for a scan that is not there."""

    scan: Path | None
    lesion: Path

    def __post_init__(self) -> None:
        self._loaded: list[slicer.vtkMRMLNode] = []

    @property
    def names(self) -> tuple[str, str]:
        """What the table shows."""
        return self.scan.name if self.scan else "", self.lesion.name

    @property
    def filled(self) -> Path:
        """The file of the result."""
        return self.lesion.with_name(_subject(self.lesion) + FILLED)

    def load(self) -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLNode]:
        """The nodes of the files. Raises InputError if they cannot be loaded, or if there is a result already."""
        if self.scan is None:
            raise InputError(_("There is not one scan with the same beginning of its name: rename the files."))
        if self.filled.exists():
            raise InputError(_("'{name}' is there already: move it away.").format(name=self.filled.name))
        try:
            self._loaded.append(slicer.util.loadVolume(str(self.scan)))
            self._loaded.append(slicer.util.loadLabelVolume(str(self.lesion)))
        except RuntimeError as error:
            raise InputError(_("A file cannot be read: check that both are images.")) from error
        return self._loaded[0], self._loaded[1]

    def finish(self, result: slicer.vtkMRMLNode | None) -> None:
        """Save the result, if there is one, and take all nodes out of the scene. Raises InputError if it fails."""
        saved = result is None or slicer.util.saveNode(result, str(self.filled))
        extra = [results.uncertainty_of(result)] if result is not None else []
        for node in [*self._loaded, *extra, result]:
            if nodes.in_scene(node):
                nodes.remove(node)
        self._loaded.clear()
        if not saved:
            raise InputError(_("The result cannot be saved: check the disk and the rights to write to the folder."))


def pairs_of_scene() -> list[ScenePair]:
    """Every segmentation and every label map with its scan: the one it was painted on, or whose name begins its own."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    scans = [node for node in volumes if is_scalar_volume(node) and not results.input_of(node)]
    lesions = [node for node in volumes if node.IsA("vtkMRMLLabelMapVolumeNode")]
    pairs = []
    for lesion in [*slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), *lesions]:
        painted_on = lesion.GetNodeReference(REFERENCE_GEOMETRY)
        named = [scan for scan in scans if lesion.GetName().startswith(scan.GetName())]
        scan = painted_on if painted_on in scans else max(named, key=lambda scan: len(scan.GetName()), default=None)
        pairs.append(ScenePair(scans[0] if scan is None and len(scans) == 1 else scan, lesion))
    return pairs


def pairs_of_folder(folder: Path) -> list[FilePair]:
    """Every lesion file of a folder with its scan: `a_lesions.nii.gz` belongs to `a_T1w.nii.gz`."""
    from ...volumes.read import IMAGE_SUFFIXES  # SimpleITK comes with it

    files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(IMAGE_SUFFIXES))
    files = [path for path in files if not path.name.endswith(FILLED)]
    lesions = [path for path in files if any(word in _last_part(path).lower() for word in LESION_WORDS)]
    scans: dict[str, list[Path]] = {}
    for path in files:
        if path not in lesions:
            scans.setdefault(_subject(path), []).append(path)
    found = [(scans.get(_subject(lesion), []), lesion) for lesion in lesions]
    return [FilePair(candidates[0] if len(candidates) == 1 else None, lesion) for candidates, lesion in found]


def _stem(path: Path) -> str:
    return path.name.removesuffix(path.suffix).removesuffix(".nii")


def _last_part(path: Path) -> str:
    return _stem(path).rpartition("_")[2]


def _subject(path: Path) -> str:
    """A file's name up to its last underscore."""
    return _stem(path).rpartition("_")[0]
