"""The report: what was done, what came out, and what it says about the study's claims. Made from a finished run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..models.folder import WEIGHTS
from ..volumes.write import replacing
from .downstream_report import SECTION
from .figures.figures import (
    Run,
    ablation_figures,
    model_figures,
    samples_figure,
    size_figures,
    training_figure,
    worst_figure,
)
from .holes.cases import ELLIPSOID, SQUARE
from .tables.claims import FEWER, HOLDS, LARGE, LEVEL, STUDY, STUDY_SIDE, Claim, claims
from .tables.rows import Row, markdown
from .tables.statistics import REFERENCES, by_fill, full_name, rivals
from .tables.summary import by_group_and_kind, full_table, p_value, paired_table

FIGURES = "Figures"
DEFINITIONS = """\
**Holes.** `squareP`: a square of P % of the slice's width in one axial slice of the aligned brain, of pixels of the
models' size; the slices above and below are not known. `lesions`: the outlines of real lesions, carried over from
other brains. `ellipsoidR`: a lumpy ellipsoid with the volume of a ball of R mm. Lesions and ellipsoids are cut into the
scans' own grids. Of lesions and ellipsoids the truth is hidden from every step, alignment included; a square's slice
is prepared with the whole brain in view, as the study's slices were.

**Fills.** harmonic: the smoothest continuation, 3-D. biharmonic: scikit-image, slice by slice. telea: OpenCV, slice by
slice. mean: the training brains' mean. linear: probabilistic PCA of the training slices. Mean and linear are blended
into the scan by Poisson's equation, as in the study; the models are krige_residual, blended as a Matérn field and given
texture. "no prior", "unweighted", "no conditioning", "no blending" and "no texture" are a model without one of its
parts, "Poisson" is blended by Poisson's equation instead; the study had no conditioning and no texture.

**Measurements.** In the hole, after rounding to the scan's pixel type: PSNR (peak: the 99.5th percentile of the brain),
SSIM (Gaussian window, sigma 1.5 voxels), MAE (share of that peak), sharpness (mean gradient over the truth's), noise
(median second difference over the truth's), seam (jump across the hole's border over the jumps beside it; 1:
invisible). Slice PSNR is over the whole slice of a square, known pixels included. Differences are paired, case by case;
p is of the two-sided Wilcoxon signed-rank test, for which
several holes in one brain count as independent."""


def write_report(run: Run, command: str, folder: Path, downstream: Path | None = None) -> None:
    """Write Experiment.md and the pictures it shows, in Figures.

    Args:
        command: that made the run.
        folder: is made if it is not there.
        downstream: folder of a finished `medinpaint downstream`, whose section is taken in.
    """
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    drawn = [
        *model_figures(run, figures),
        *ablation_figures(run, figures),
        *size_figures(run, figures),
        *worst_figure(run, figures),
        *samples_figure(run, figures),
        *training_figure(run, figures),
    ]
    parts = [
        "# Experiment",
        *_method(run, command),
        *_results(run),
        *_study(run),
        *_claims(run),
        *([] if downstream is None else [_taken_in(downstream, figures)]),
        "## Figures",
        "Shown is the case of each kind with the median PSNR (of the mean of the models; the lower of two). Above each "
        "picture: PSNR in the hole.",
        *(f"![{caption}]({FIGURES}/{name})\n\n*{caption}.*" for name, caption in drawn),
        *_cost(run),
        *_tables(run),
    ]
    with replacing(folder / "Experiment.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _taken_in(downstream: Path, figures: Path) -> str:
    """The section of another command's folder; its pictures are copied to the figures."""
    text = (downstream / SECTION).read_text(encoding="utf-8").strip()
    for picture in downstream.glob("*.png"):
        shutil.copyfile(picture, figures / picture.name)
        text = text.replace(f"]({picture.name})", f"]({FIGURES}/{picture.name})")
    return text


def _method(run: Run, command: str) -> Iterator[str]:
    yield "## What was done"
    groups = {}
    for (group, kind), rows in by_group_and_kind(run.rows):
        groups.setdefault(group, {})[kind] = len({row.case for row in rows})
    lines = []
    for group, counts in groups.items():
        scans = {row.scan for row in run.rows if row.group == group}
        cases = ", ".join(f"{kind} {n}" for kind, n in counts.items())
        lines.append((group, str(len(scans)), str(sum(counts.values())), cases))
    yield markdown(("scans of", "n", "cases", "of each kind"), lines)
    changed, same = sum(row.changed_outside for row in run.rows), all(r.same_geometry * r.same_type for r in run.rows)
    identical = "are the scan's in all of them" if same else "differ from the scan's in some of them"
    yield f"{len(run.rows)} fills; {changed} voxels outside the holes changed; geometry and pixel type {identical}."
    yield f"```\n{command}\n```"
    if run.models:
        heading = ("model", "kind", "kernel", "latent", "weights, MB", "epochs", "training, min", "trained on")
        yield markdown(heading, [_card(run, name) for name in run.cards])
    yield DEFINITIONS


def _card(run: Run, name: str) -> list[str]:
    model = next(model for model in run.models if model.name == name)
    card, size = model.card, (model.folder / WEIGHTS).stat().st_size / 1e6
    numbers = (card["kind"].upper(), card["kernel"], card["latent"], f"{size:.1f}", card["epochs"])
    return [name, *map(str, numbers), f"{card['training_minutes']:.0f}, {card['device']}", card["data"]["name"]]


def _results(run: Run) -> Iterator[str]:
    yield "## Results"
    yield "Median PSNR (dB) / SSIM in the hole; bold: the best."
    for group in dict.fromkeys(row.group for row in run.rows):
        rows = [row for row in run.rows if row.group == group and full_name(row.fill) == row.fill]
        fills, kinds = by_fill(rows), list(dict.fromkeys(row.kind for row in rows))
        counts = [len({row.case for row in rows if row.kind == kind}) for kind in kinds]
        heading = (group, *(f"{kind}, n = {n}" for kind, n in zip(kinds, counts, strict=True)))
        columns = [_marked(_medians(rows, fills, kind, "psnr"), 2) for kind in kinds]
        similar = [_marked(_medians(rows, fills, kind, "ssim"), 3) for kind in kinds]
        lines = [
            [name, *(f"{a[n]} / {b[n]}" for a, b in zip(columns, similar, strict=True))] for n, name in enumerate(fills)
        ]
        yield markdown(heading, lines)


def _medians(rows: Sequence[Row], fills: Sequence[str], kind: str, measure: str) -> list[float]:
    """Of each fill, not a number where it has no case."""
    values = [[getattr(row, measure) for row in rows if row.fill == fill and row.kind == kind] for fill in fills]
    return [float(np.median(each)) if each else float("nan") for each in values]


def _marked(values: Sequence[float], decimals: int) -> list[str]:
    """As text, the highest bold."""
    shown = ["-" if np.isnan(value) else f"{value:.{decimals}f}" for value in values]
    best = f"{np.nanmax(values):.{decimals}f}"
    return [f"**{text}**" if text == best else text for text in shown]


def _study(run: Run) -> Iterator[str]:
    kinds = [kind for kind in run.kinds if kind.startswith(SQUARE)]
    if not kinds or not run.models:
        return
    yield "## Beside the study's figures"
    groups = list(by_group_and_kind([row for row in run.rows if row.kind in kinds]))
    parts = [[row for _, rows in groups for row in rows], *(rows for _, rows in groups)]
    lines = []
    for (kind, kernel, part), psnr in STUDY.items():
        name = next((name for name, c in run.cards.items() if (c["kind"], c["kernel"]) == (kind, kernel)), "")
        label = " ".join((kind.upper(), str(kernel), part)).strip()
        figures = [", ".join(f"{value:.2f}" for value in psnr), f"{np.mean(psnr):.2f}"]
        lines.append([label, *figures, *(_slice_mean(rows, f"{name} {part}".strip()) for rows in parts)])
    lines += [[name, "-", "-", *(_slice_mean(rows, name) for rows in parts)] for name in REFERENCES]
    heading = ("all our squares", *(f"{group}, {kind}" for (group, kind), _ in groups))
    yield "PSNR of the whole slice in dB: the study's three slices and their mean, and the means of ours."
    yield markdown(("", "study", "mean", *heading), lines)
    width, height, _ = run.models[0].card["grid"]["size"]
    higher = 10 * np.log10(width * height / STUDY_SIDE**2)
    yield (
        f"The study's squares were about 12 to 25 % of the side. Its slices had {STUDY_SIDE} x {STUDY_SIDE} pixels, "
        f"ours have {width} x {height}, more of them known: the same error in the same square gives {higher:.2f} dB "
        "more here. The images are others, too."
    )


def _slice_mean(rows: Sequence[Row], fill: str) -> str:
    values = [row.slice_psnr for row in rows if row.fill == fill]
    return f"{np.mean(values):.2f} (n = {len(values)})" if values else "-"


def _claims(run: Run) -> Iterator[str]:
    yield "## The study's claims"
    large = f"squares of {LARGE[SQUARE]} % or more, ellipsoids of {LARGE[ELLIPSOID]} mm or more"
    yield (
        f"Over all cases of all kinds and scans. A difference is in favour of the claim if positive. Holds: so it is, "
        f"with p < {LEVEL}; does not hold: it is negative with p < {LEVEL}; else not decided. Large: {large}."
    )
    found = claims(run.rows, run.cards)
    yield "\n".join(f"- {claim.text}: **{claim.verdict}**." for claim in found) + "\n" + "\n".join(_effort(run))
    lines = [line for claim in found for line in _finding_lines(claim)]
    if lines:
        yield markdown(("claim", "difference", "of", "n", "median", "worse in", "p", "verdict"), lines)


def _finding_lines(claim: Claim) -> Iterator[list[str]]:
    for finding in claim.findings:
        result, decibels = finding.result, finding.measure == "psnr"
        median = f"{result.median:+.2f} dB" if decibels else f"{result.median:+.3f}"
        numbers = [str(result.n), median, str(result.worse), p_value(result.p), finding.verdict]
        yield [claim.text, finding.compared, finding.measure.upper(), *numbers]


def _effort(run: Run) -> Iterator[str]:
    """Epochs and their time, VAE against GAN, from the cards."""
    text = f"VAEs need {FEWER:.0%} fewer epochs of {FEWER:.0%} less time each".replace("%", " %")
    compared = rivals(run.cards)
    if not compared:
        yield f"- {text}: **not tested**."
    for vae, gan in compared:
        a, b = run.cards[vae], run.cards[gan]
        times = [card["training_minutes"] / card["epochs"] for card in (a, b)]
        saved = (1 - a["epochs"] / b["epochs"], 1 - times[0] / times[1])
        verdict = HOLDS if min(saved) >= FEWER else "does not hold"
        yield (
            f"- {text}: **{verdict}** for {vae} and {gan} ({a['epochs']} epochs of {times[0]:.1f} min against "
            f"{b['epochs']} of {times[1]:.1f} min)."
        )


def _cost(run: Run) -> Iterator[str]:
    yield "## Time and memory"
    yield "Median seconds a fill, and the most memory it adds, MB (median). Alignment and slicing come before each."
    rows = [row for row in run.rows if full_name(row.fill) == row.fill]
    kinds = list(dict.fromkeys(row.kind for row in rows))
    lines = [["alignment and slicing", *(f"{_median(rows, kind, 'preparation'):.1f} s" for kind in kinds)]]
    for name, cases in by_fill(rows).items():
        cells = []
        for kind in kinds:
            seconds, memory = (_median(list(cases.values()), kind, key) for key in ("seconds", "memory"))
            cells.append(
                "-" if np.isnan(seconds) else f"{seconds:.1f} s" + ("" if np.isnan(memory) else f", {memory:.0f} MB")
            )
        lines.append([name, *cells])
    yield markdown(("", *kinds), lines)


def _median(rows: Sequence[Row], kind: str, measure: str) -> float:
    values = [getattr(row, measure) for row in rows if row.kind == kind]
    return float(np.nanmedian(values)) if not np.all(np.isnan(values)) else float("nan")


def _tables(run: Run) -> Iterator[str]:
    yield "## All figures"
    yield "Median [quartiles]; below them the differences to the reference fills, case by case."
    for (group, kind), rows in by_group_and_kind(run.rows):
        yield f"### {group}, {kind}"
        yield full_table(rows)
        table = paired_table(rows, run.cards)
        if table:
            yield table
