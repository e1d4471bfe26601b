"""The results of a finished evaluation: its rows, its models, and the stored views with their fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...models.folder import Model
from ..fills.models import STUDY
from ..holes.cases import SQUARE
from ..measures.row import Row
from .views import TRUTH, View, read_view, view_path, voxels_path


@dataclass(frozen=True)
class Results:
    """What `medinpaint evaluate` wrote into a folder.

    Attributes:
        folder: the output folder.
        rows: of the table.
        models: in the order of the report.
    """

    folder: Path
    rows: Sequence[Row]
    models: Sequence[Model]

    @property
    def cards(self) -> dict[str, Mapping]:
        """The cards by the names of the models."""
        return {model.name: model.card for model in self.models}

    def model_fills(self, kind: str) -> list[str]:
        """The models' fills that matter in a kind of hole: in squares those of the study, elsewhere whole models."""
        return [f"{name} {STUDY}" if kind.startswith(SQUARE) else name for name in self.cards]

    @property
    def kinds(self) -> list[str]:
        """The kinds of holes, in the order of the table."""
        return list(dict.fromkeys(row.kind for row in self.rows))

    @property
    def cases(self) -> dict[str, dict[str, Row]]:
        """case -> fill -> row, in the order of the table."""
        cases: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            cases.setdefault(row.case, {})[row.fill] = row
        return cases

    def typical(self, kind: str) -> dict[str, Row]:
        """fill -> row of the typical case of a kind of hole: the case with the median PSNR, averaged over the models.

        For an even number of cases, this is the lower one of the two in the middle. Without models, the average is over
        all fills.
        """
        cases = {case: fills for case, fills in self.cases.items() if case_of(fills).kind == kind}
        names = [name for name in self.model_fills(kind) if all(name in fills for fills in cases.values())]

        def mean(case: str) -> float:
            return float(np.mean([cases[case][name].psnr for name in names or cases[case]]))

        return cases[sorted(cases, key=mean)[(len(cases) - 1) // 2]]

    def view(self, row: Row) -> View:
        """The view of the case of a row."""
        return read_view(view_path(self.folder, row.case))

    def voxels(self, row: Row) -> NDArray[np.number]:
        """The fill of a row: the voxels of the hole, (n,)."""
        return np.load(voxels_path(self.folder, row.case, row.fill))

    def truth(self, row: Row) -> NDArray[np.number]:
        """The healthy scan in the hole of a row, (n,)."""
        return np.load(voxels_path(self.folder, row.case, TRUTH))

    def picture(self, row: Row) -> NDArray[np.float32]:
        """The slice with the fill of a row, float32 (h, w)."""
        return self.view(row).filled(self.voxels(row))


def case_of(fills: Mapping[str, Row]) -> Row:
    """One row of a case, for the attributes that are the same in all its rows."""
    return next(iter(fills.values()))
