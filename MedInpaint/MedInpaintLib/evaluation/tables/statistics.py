"""Fills compared case by case: differences of the same holes, and whether they may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.stats import wilcoxon

from ..fills.fills import ABLATIONS
from .rows import Row

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


def measured(cases: Mapping[str, Row], measure: str) -> dict[str, float]:
    """case -> an attribute of its row."""
    return {case: getattr(row, measure) for case, row in cases.items()}


def gains(cases: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """case -> by how much the first is higher, of the cases in both."""
    return {case: value - reference[case] for case, value in cases.items() if case in reference}


def paired(cases: Mapping[str, float], reference: Mapping[str, float]) -> Paired | None:
    """The differences between two fills given as case -> measurement; None if they have no case in common."""
    common = gains(cases, reference)
    if not common:
        return None
    differences = np.array([*common.values()])
    p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Paired(len(common), float(np.median(differences)), int((differences < 0).sum()), float(differences.min()), p)


def full_name(fill: str) -> str:
    """The model that a fill is an ablation of; any other fill's own name."""
    return next((fill.removesuffix(f" {name}") for name in ABLATIONS if fill.endswith(f" {name}")), fill)


def comparisons(fills: Sequence[str], cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """Which fill is compared with which.

    Every fill with the references before it, every ablation with its model, a VAE with the GAN of its kernel, and of
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
    models = {name: cards[name] for name in whole if name in cards}
    return pairs + rivals(models) + larger(models)


def rivals(cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The names of each VAE and each GAN of its kernel."""
    return [
        (a, b)
        for a, b in permutations(cards, 2)
        if (cards[a]["kind"], cards[b]["kind"]) == ("vae", "gan") and cards[a]["kernel"] == cards[b]["kernel"]
    ]


def larger(cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The names of each model and each of its kind with a smaller kernel."""
    return [
        (a, b)
        for a, b in permutations(cards, 2)
        if cards[a]["kind"] == cards[b]["kind"] and cards[a]["kernel"] > cards[b]["kernel"]
    ]
