"""The study's results and claims, and what the experiment finds for each claim.

The study compared GANs and VAEs with convolution kernels of 3 and 7 by latent search on three 96 x 96 slices of brain
MRI. Each claim is tested twice: in squares, where the models fill as in the study, and in volumes, where they fill with
all that MedInpaint has. The verdict comes from the paired differences, with the subjects as the unit. A claim holds if
the differences agree with it and the Wilcoxon test gives p < 0.05. It does not hold if they disagree with p < 0.05.
Otherwise it is not decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..fills.models import STUDY
from ..holes.cases import ELLIPSOID, SQUARE, split_kind
from ..measures.row import Row
from .statistics import (
    Paired,
    against_linear,
    by_fill,
    gains,
    larger_kernels,
    measured,
    paired,
    vaes_and_gans,
)

STUDY_PSNR = {  # kind, kernel, ablation: PSNR in dB of its three slices
    ("gan", 3, ""): (26.93, 19.38, 21.85),
    ("gan", 7, ""): (26.85, 23.40, 22.22),
    ("vae", 3, ""): (27.51, 22.89, 25.63),
    ("vae", 7, ""): (30.29, 23.10, 24.82),
    ("vae", 7, "no prior"): (30.20, 21.48, 18.51),
    ("vae", 7, "unweighted"): (26.70, 22.03, 17.51),
    ("vae", 7, "no blending"): (28.76, 18.83, 19.07),
}
STUDY_SIDE = 96  # pixels of its slices
FEWER = 0.25  # share by which the study's VAEs needed fewer epochs, and less time, than its GANs
LEVEL = 0.05  # of p
LARGE = {SQUARE: 40, ELLIPSOID: 16}  # percent of the width, mm: holes of this size or more are large
HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not hold", "not decided", "not tested"
SQUARES, VOLUMES = "squares, as the study fills", "volumes, whole models"
MEASURES = ("psnr", "ssim")
PARTS = {"no prior": "prior", "unweighted": "weighting", "no blending": "blending"}  # ablation: the part it lacks


@dataclass(frozen=True)
class Finding:
    """One comparison for a claim.

    Attributes:
        compared: names of the fills.
        measure: one of MEASURES.
        result: the differences. The claim says that they are positive.
    """

    compared: str
    measure: str
    result: Paired

    @property
    def verdict(self) -> str:
        """Whether the claim holds in this comparison."""
        if self.result.p >= LEVEL or self.result.median == 0:
            return OPEN
        return HOLDS if self.result.median > 0 else FAILS


@dataclass(frozen=True)
class Claim:
    """A claim of the study and the findings about it."""

    text: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """Whether the claim holds in all findings together."""
        verdicts = {finding.verdict for finding in self.findings}
        if len(verdicts) < 2:
            return next(iter(verdicts), UNTESTED)
        return "holds in part" if HOLDS in verdicts else FAILS


def claims(rows: Sequence[Row], cards: Mapping[str, Mapping]) -> dict[str, list[Claim]]:
    """The study's claims about quality in squares and in volumes, and whether networks beat the linear model.

    The cards give the kind and the kernel of the models.
    """
    squares = [row for row in rows if row.kind.startswith(SQUARE)]
    volumes = [row for row in rows if not row.kind.startswith(SQUARE)]
    return {SQUARES: _claims(squares, cards, f" {STUDY}"), VOLUMES: _claims(volumes, cards, "")}


def _claims(rows: Sequence[Row], cards: Mapping[str, Mapping], suffix: str) -> list[Claim]:
    """The claims from these rows. The suffix follows the name of a model in the names of its fills."""

    def fills(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(a + suffix, b + suffix) for a, b in pairs]

    large = [row for row in rows if is_large(row.kind)]
    pairs = fills(vaes_and_gans(cards))
    networks = [name + suffix for name, card in cards.items() if card["kind"] != "linear"]
    parts = [
        Claim(f"The {part} matters", _findings(rows, [(name, f"{name} {ablation}") for name in networks]))
        for ablation, part in PARTS.items()
    ]
    return [
        Claim("VAEs beat GANs", _findings(rows, pairs)),
        Claim("VAEs beat GANs in large holes too", _findings(large, pairs)),
        Claim("Larger kernels help", _findings(rows, fills(larger_kernels(cards)))),
        *parts,
        Claim("The prior matters more in VAEs than in GANs", tuple(_prior_gains(rows, pairs))),
        Claim("Networks beat the linear model", _findings(rows, fills(against_linear(cards)))),
    ]


def is_large(kind: str) -> bool:
    """Whether a kind of hole is large."""
    shape, size = split_kind(kind)
    return shape in LARGE and size >= LARGE[shape]


def _findings(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> tuple[Finding, ...]:
    """The differences of each pair of fills that has cases in common."""
    fills = by_fill(rows)
    found = []
    for name, reference in pairs:
        for measure in MEASURES:
            a, b = (measured(fills.get(fill, {}), measure) for fill in (name, reference))
            result = paired(a, b)
            if result:
                found.append(Finding(f"{name} - {reference}", measure, result))
    return tuple(found)


def _prior_gains(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """For each pair of a VAE and a GAN: what the prior gains in the VAE minus what it gains in the GAN."""
    fills = by_fill(rows)
    for vae, gan in pairs:
        for measure in MEASURES:
            of_vae, of_gan = (
                gains(*(measured(fills.get(fill, {}), measure) for fill in (name, f"{name} no prior")))
                for name in (vae, gan)
            )
            result = paired(of_vae, of_gan)
            if result:
                yield Finding(f"gain by the prior, {vae} - {gan}", measure, result)
