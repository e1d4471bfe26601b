"""The study's figures and claims, and what the experiment says about each claim.

The study compared GANs and VAEs with convolution kernels of 3 and 7 by latent search on three 96 x 96 slices of brain
MRI. A claim is judged by the paired differences of all cases: it holds if these go its way and the Wilcoxon test gives
p < 0.05, it does not hold if they go the other way with p < 0.05, and else it is not decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..holes.cases import ELLIPSOID, SQUARE
from .rows import Row
from .statistics import Paired, by_fill, gains, larger, measured, paired, rivals

STUDY = {  # kind, kernel, ablation: PSNR in dB of its three slices
    ("gan", 3, ""): (26.93, 19.38, 21.85),
    ("gan", 7, ""): (26.85, 23.40, 22.22),
    ("vae", 3, ""): (27.51, 22.89, 25.63),
    ("vae", 7, ""): (30.29, 23.10, 24.82),
    ("vae", 7, "no prior"): (30.20, 21.48, 18.51),
    ("vae", 7, "unweighted"): (26.70, 22.03, 17.51),
    ("vae", 7, "no blending"): (28.76, 18.83, 19.07),
}
STUDY_SIDE = 96  # pixels of its slices
FEWER = 0.25  # of the GAN's epochs and of their time, which its VAEs did without
LEVEL = 0.05  # of p
LARGE = {SQUARE: 40, ELLIPSOID: 16}  # percent of the width, mm: holes from here on are large
HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not hold", "not decided", "not tested"
MEASURES = ("psnr", "ssim")
PARTS = {"no prior": "prior", "unweighted": "weighting", "no blending": "blending"}  # by the ablation that lacks it


@dataclass(frozen=True)
class Finding:
    """One comparison that a claim rests on.

    Attributes:
        compared: what with what.
        measure: a key of MEASURES.
        result: of the differences, which the claim says are positive.
    """

    compared: str
    measure: str
    result: Paired

    @property
    def verdict(self) -> str:
        """Whether the claim holds here."""
        if self.result.p >= LEVEL or self.result.median == 0:
            return OPEN
        return HOLDS if self.result.median > 0 else FAILS


@dataclass(frozen=True)
class Claim:
    """A claim of the study and what was found."""

    text: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """Of all findings together."""
        verdicts = {finding.verdict for finding in self.findings}
        if len(verdicts) < 2:
            return next(iter(verdicts), UNTESTED)
        return "holds in part" if HOLDS in verdicts else FAILS


def claims(rows: Sequence[Row], cards: Mapping[str, Mapping]) -> list[Claim]:
    """The study's claims about quality; the models' cards say which fill is which model."""
    large = [row for row in rows if is_large(row.kind)]
    parts = [
        Claim(f"The {name} matters", _findings(rows, [(model, f"{model} {lack}") for model in cards]))
        for lack, name in PARTS.items()
    ]
    return [
        Claim("VAEs beat GANs", _findings(rows, rivals(cards))),
        Claim("VAEs beat GANs in large holes too", _findings(large, rivals(cards))),
        Claim("Larger kernels help", _findings(rows, larger(cards))),
        *parts,
        Claim("The prior matters more in VAEs than in GANs", tuple(_prior_gains(rows, rivals(cards)))),
    ]


def is_large(kind: str) -> bool:
    """Whether a kind of hole is among the large ones."""
    shape = kind.rstrip("0123456789")
    return shape in LARGE and int(kind.removeprefix(shape)) >= LARGE[shape]


def _findings(rows: Sequence[Row], compared: Sequence[tuple[str, str]]) -> tuple[Finding, ...]:
    fills = by_fill(rows)
    found = []
    for name, reference in compared:
        for measure in MEASURES:
            a, b = (measured(fills.get(fill, {}), measure) for fill in (name, reference))
            result = paired(a, b)
            if result:
                found.append(Finding(f"{name} - {reference}", measure, result))
    return tuple(found)


def _prior_gains(rows: Sequence[Row], compared: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    fills = by_fill(rows)
    for vae, gan in compared:
        for measure in MEASURES:
            of_vae, of_gan = (
                gains(*(measured(fills.get(fill, {}), measure) for fill in (name, f"{name} no prior")))
                for name in (vae, gan)
            )
            result = paired(of_vae, of_gan)
            if result:
                yield Finding(f"gain by the prior, {vae} - {gan}", measure, result)
