"""Fills compared case by case: differences of the same holes, and whether they may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import wilcoxon

from .fills import ABLATIONS
from .tables import Row

REFERENCES = ("harmonic", "linear")  # what the fills after them are compared with


@dataclass(frozen=True)
class Paired:
    """One fill against another over the cases that both have filled.

    Attributes:
        n: cases.
        median: of the differences.
        worse: cases in which the first is lower.
        lowest: difference.
        p: of a two-sided Wilcoxon signed-rank test; 1 if no case differs.
    """

    n: int
    median: float
    worse: int
    lowest: float
    p: float


def by_fill(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """fill -> case -> row, in the order of the rows."""
    fills: dict[str, dict[str, Row]] = {}
    for row in rows:
        fills.setdefault(row.fill, {})[row.case] = row
    return fills


def paired(cases: Mapping[str, Row], reference: Mapping[str, Row], measure: str) -> Paired | None:
    """The differences of a measure (an attribute of Row) between fills given as case -> row; None without pairs."""
    common = [case for case in cases if case in reference]
    if not common:
        return None
    differences = np.array([getattr(cases[case], measure) - getattr(reference[case], measure) for case in common])
    p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Paired(len(common), float(np.median(differences)), int((differences < 0).sum()), float(differences.min()), p)


def full_name(fill: str) -> str:
    """The model that a fill is an ablation of; any other fill's own name."""
    return next((fill.removesuffix(f" {name}") for name in ABLATIONS if fill.endswith(f" {name}")), fill)


def comparisons(fills: Sequence[str], cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """Which fill is compared with which.

    Every fill with the references before it, every ablation with its model, a GAN with the VAE of its kernel, and of
    models of one kind a larger kernel with a smaller one.

    Args:
        fills: names of those there are.
        cards: the models' cards by their names.
    """
    whole = [name for name in fills if full_name(name) == name]
    pairs = [
        (name, reference)
        for rank, reference in enumerate(REFERENCES)
        for name in whole
        if reference in fills and name not in REFERENCES[: rank + 1]
    ]
    pairs += [(name, full_name(name)) for name in fills if full_name(name) != name and full_name(name) in fills]
    models = [(name, cards[name]["kind"], cards[name]["kernel"]) for name in whole if name in cards]
    for (a, kind, kernel), (b, other_kind, other_kernel) in product(models, repeat=2):
        rivals = (kind, other_kind) == ("gan", "vae") and kernel == other_kernel
        if rivals or (kind == other_kind and kernel > other_kernel):
            pairs.append((a, b))
    return pairs
