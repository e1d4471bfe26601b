"""Paired differences of two fills in the same holes, and the test of whether they can be chance.

The unit of the test is the subject: several holes in one brain are not independent, so their differences are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.stats import wilcoxon

from ..fills.models import STUDY, full_name
from ..measures.row import Row

REFERENCES = ("harmonic", "niftyseg")  # the fills that the others are compared with
Measured = Mapping[tuple[str, str], float]  # (subject, case) -> measurement


@dataclass(frozen=True)
class Paired:
    """The differences of two fills over the cases that both filled.

    Attributes:
        subjects, cases: their numbers.
        median: median over the subjects of the mean difference of a subject's cases.
        worse: number of cases in which the first fill is lower.
        lowest: lowest difference of a case.
        p: of the two-sided Wilcoxon signed-rank test over the subjects; 1 if all differences are 0.
    """

    subjects: int
    cases: int
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


def measured(cases: Mapping[str, Row], measure: str) -> Measured:
    """The measurement in each row."""
    return {(f"{row.group} {row.scan}", case): getattr(row, measure) for case, row in cases.items()}


def gains(cases: Measured, reference: Measured) -> Measured:
    """cases - reference, for the cases that both have measured."""
    differences = {case: value - reference[case] for case, value in cases.items() if case in reference}
    return {case: difference for case, difference in differences.items() if difference == difference}  # not NaN


def paired(cases: Measured, reference: Measured) -> Paired | None:
    """The differences of two fills; None if they have no case in common."""
    by_subject: dict[str, list[float]] = {}
    for (subject, _), difference in gains(cases, reference).items():
        by_subject.setdefault(subject, []).append(difference)
    if not by_subject:
        return None
    differences = np.concatenate([*by_subject.values()])
    means = np.array([np.mean(each) for each in by_subject.values()])
    p = float(wilcoxon(means).pvalue) if means.any() else 1.0
    worse, lowest = int((differences < 0).sum()), float(differences.min())
    return Paired(len(means), len(differences), float(np.median(means)), worse, lowest, p)


def comparisons(fills: Sequence[str], cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The pairs of fills to compare.

    Every fill with the references, a model as the study fills with the whole of it, and every ablation with its model;
    networks with the linear model, a VAE with the GAN of its kernel, and a larger kernel with a smaller one, once whole
    and once as the study fills.

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
    pairs += [(f"{name} {STUDY}", name) for name in cards]
    pairs += [(name, full_name(name)) for name in fills if full_name(name) != name]
    of_models = [*against_linear(cards), *vaes_and_gans(cards), *larger_kernels(cards)]
    pairs += [(a + suffix, b + suffix) for suffix in ("", f" {STUDY}") for a, b in of_models]
    return [pair for pair in pairs if set(pair) <= set(fills)]


def against_linear(cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The names of each network and each linear model."""
    return [(a, b) for a, b in permutations(cards, 2) if cards[a]["kind"] != "linear" and cards[b]["kind"] == "linear"]


def vaes_and_gans(cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The names of each VAE and each GAN with the same kernel."""
    return [
        (a, b)
        for a, b in permutations(cards, 2)
        if (cards[a]["kind"], cards[b]["kind"]) == ("vae", "gan") and cards[a]["kernel"] == cards[b]["kernel"]
    ]


def larger_kernels(cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The names of each network and each network of the same kind with a smaller kernel."""
    return [
        (a, b)
        for a, b in permutations(cards, 2)
        if cards[a]["kind"] == cards[b]["kind"] != "linear" and cards[a]["kernel"] > cards[b]["kernel"]
    ]
