"""What a run leaves for the next one in the same process: the loaded model, and the alignment of the scan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .models.folder import Model
from .space.alignment import Alignment, align, brain_mask
from .space.template import Template

if TYPE_CHECKING:
    from .models.latent_model import LatentModel

# A registration that saw this much lesion is used again: 1 % of a brain moves the alignment by far less than a voxel.
# A scan whose lesion was hardly marked at first is aligned anew.
MOST_SEEN = 15.0  # ml


@dataclass(frozen=True)
class _Aligned:
    """The alignment of a scan: what it was made from, and the hole that it did not see.

    Masks are packed, eight voxels in a byte. `brain` is None for a brain-extracted scan: it depends on the hole there.
    """

    scan: bytes
    template: Template
    alignment: Alignment
    hole: np.ndarray
    brain: np.ndarray | None

    def serves(self, name: bytes, scan: sitk.Image, hole: np.ndarray, template: Template) -> bool:
        """Whether this is the alignment of a scan with this hash, and knows little of its hole."""
        if name != self.scan or not _same(template, self.template):
            return False
        unseen = _unpack(self.hole, hole.shape)
        seen = np.count_nonzero(hole & ~unseen) * float(np.prod(scan.GetSpacing())) / 1000
        return bool(seen <= MOST_SEEN)


class Kept:
    """Keeps the last model and the alignment of the last scan. The scan itself is not kept, but its hash.

    The alignment of a scan is used again for other masks, as long as no more than 15 ml of the new hole were known when
    it was made. With the same mask, the next run gives the same bits as the first one; with another mask, it gives the
    bits of any run that uses that alignment.
    """

    def __init__(self) -> None:
        self._model: tuple[Model, Template, LatentModel] | None = None
        self._aligned: _Aligned | None = None

    def load(self, model: Model) -> tuple[Template, LatentModel]:
        """The model's template and its network, on the CPU when it is new. Raises InputError if they cannot be read."""
        from .search.device import choose_device

        if self._model is None or self._model[0] != model:
            self._model = None  # before the next one is loaded, so that memory holds one at a time
            self._model = model, model.template(), model.network(choose_device("cpu"))
        return self._model[1:]

    def align(self, scan: sitk.Image, values: np.ndarray, hole: np.ndarray, template: Template) -> Alignment:
        """As `space.alignment.align`, but that of an earlier run on the same scan, `reused`, if there is one."""
        name = _hash(scan)
        if self._aligned is None or not self._aligned.serves(name, scan, hole, template):
            alignment = align(scan, values, hole, template)
            brain = None if alignment.extracted else np.packbits(alignment.brain)
            self._aligned = _Aligned(name, template, alignment.without_brain(), np.packbits(hole), brain)
            return alignment
        known, packed = self._aligned.alignment, self._aligned.brain
        if packed is None:
            brain = brain_mask(scan, values, hole, template, known.transform, known.extracted)
        else:
            brain = _unpack(packed, hole.shape)
        return replace(known, brain=brain, reused=True)


def _hash(scan: sitk.Image) -> bytes:
    """A hash of the voxels and of the grid."""
    voxels = sitk.GetArrayViewFromImage(scan)
    grid = (scan.GetSize(), scan.GetSpacing(), scan.GetOrigin(), scan.GetDirection(), str(voxels.dtype))
    return hashlib.sha256(repr(grid).encode() + voxels.tobytes()).digest()


def _unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A packed mask, bool, of this shape."""
    return np.unpackbits(packed, count=int(np.prod(shape))).view(bool).reshape(shape)


def _same(one: Template, other: Template) -> bool:
    """Whether two templates have the same voxels and the same grid. All shipped models share one."""
    return one is other or (_hash(one.image), _hash(one.brain)) == (_hash(other.image), _hash(other.brain))
