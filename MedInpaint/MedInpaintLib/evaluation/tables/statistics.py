"""Paired differences of two fills in the same holes, and the test of whether they can be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.stats import wilcoxon

from ..fills.models import ABLATIONS
from ..measures.row import Row

REFERENCES = ("harmonic", "linear")  # the fills that the others are compared with


@dataclass(frozen=True)
class Paired:
    """The differences of two fills over the cases that both filled.

    Attributes:
        n: number of cases.
        median: median difference.
        worse: number of cases in which the first fill is lower.
        lowest: lowest difference.
        p: of the two-sided Wilcoxon signed-rank test; 1 if all differences are 0.
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
    """case -> the measurement in its row."""
    return {case: getattr(row, measure) for case, row in cases.items()}


def gains(cases: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """case -> cases - reference, for the cases that both have measured."""
    differences = {case: value - reference[case] for case, value in cases.items() if case in reference}
    return {case: difference for case, difference in differences.items() if difference == difference}  # not NaN


def paired(cases: Mapping[str, float], reference: Mapping[str, float]) -> Paired | None:
    """The differences of two fills, given as case -> measurement; None if they have no case in common."""
    differences = np.array([*gains(cases, reference).values()])
    if not differences.size:
        return None
    worse = int((differences < 0).sum())
    p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Paired(len(differences), float(np.median(differences)), worse, float(differences.min()), p)


def full_name(fill: str) -> str:
    """The name of the model without the name of the ablation; other names do not change."""
    return next((fill.removesuffix(f" {name}") for name in ABLATIONS if fill.endswith(f" {name}")), fill)


def comparisons(fills: Sequence[str], cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The pairs of fills to compare.

    Every fill with the references, every ablation with its model, a VAE with the GAN of the same kernel, and a larger
    kernel with a smaller one in models of the same kind.

    Args:
        fills: names of the fills.
        cards: the cards of the models by their names.
    """
    full = [name for name in fills if full_name(name) == name]
    pairs = [
        (name, reference)
        for rank, reference in enumerate(REFERENCES)
        for name in full
        if reference in fills and name not in REFERENCES[: rank + 1]
    ]
    pairs += [(name, full_name(name)) for name in fills if full_name(name) != name and full_name(name) in fills]
    models = {name: cards[name] for name in full if name in cards}
    return pairs + vaes_and_gans(models) + larger_kernels(models)


def vaes_and_gans(cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The names of each VAE and each GAN with the same kernel."""
    return [
        (a, b)
        for a, b in permutations(cards, 2)
        if (cards[a]["kind"], cards[b]["kind"]) == ("vae", "gan") and cards[a]["kernel"] == cards[b]["kernel"]
    ]


def larger_kernels(cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The names of each model and each model of the same kind with a smaller kernel."""
    return [
        (a, b)
        for a, b in permutations(cards, 2)
        if cards[a]["kind"] == cards[b]["kind"] and cards[a]["kernel"] > cards[b]["kernel"]
    ]
