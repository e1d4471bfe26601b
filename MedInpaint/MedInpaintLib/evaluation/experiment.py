"""The report of the experiment, from its results: the methods, the figures, and the verdicts on the study's claims."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..models.folder import WEIGHTS
from ..volumes.write import replacing
from .downstream_report import SECTION
from .figures.charts import samples_figure, size_figures, training_figure
from .figures.galleries import ablation_figures, model_figures
from .figures.results import Results
from .figures.worst import worst_figures
from .fills.models import STUDY, full_name
from .holes.cases import ELLIPSOID, SQUARE
from .measures.row import Row
from .tables.claims import FAILS, FEWER, HOLDS, LARGE, LEVEL, STUDY_PSNR, STUDY_SIDE, UNTESTED, Claim, claims
from .tables.statistics import REFERENCES, by_fill, vaes_and_gans
from .tables.summary import by_group_and_kind, full_table, p_value, paired_table
from .tables.text import markdown

FIGURES = "Figures"
DEFINITIONS = """\
**Holes.** `squareP`: a square of P % of the slice's width in one axial slice of the aligned brain, with the models'
pixel size; the slices above and below are not known. `lesions`: real lesion shapes from other brains, at the same place
of the brain. `stroke`: real strokes likewise. `ellipsoidR`: a lumpy ellipsoid with the volume of a ball of R mm.
`ballR`: a ball of R mm in plain white matter. All but squares are on the scan's grid and hold a dark lesion: 35 % of
the brain's 99.5th percentile, with texture, noise and partial volume at the border, stamped into the healthy scan. No
step sees the truth in them, alignment included. The mask is exact: all voxels that the lesion touches. `-tight`: the
mask is eroded by one voxel; `-generous`: it is 1 mm larger; `-zero`: the hole holds zeros and no lesion, for diagnosis.
The slice of a square is prepared from the whole brain, as in the study, and its hole holds zeros.

**Fills.** harmonic: the smoothest continuation, 3-D. biharmonic: scikit-image, slice by slice. telea: OpenCV, slice by
slice. niftyseg: `seg_FillLesions` of NiftySeg (Prados et al. 2016), a patch search in the scan. linear: probabilistic
PCA of the training brains; the other models are networks. "study" after a model's name: `--preset study`, the procedure
of the study: each slice alone, context and prior loss, Poisson blending, nothing else. Without it: all that MedInpaint
adds, which is the coupling of slices, deformation, gain and offset, the residual (Gaussian-process regression), and a
blending as a Matérn field. "no prior", "unweighted", "no residual" and "no blending": without this part; "Poisson":
with Poisson's equation for the blending; "with noise": with noise like the scan's.

**Measurements.** In the hole, after rounding to the scan's pixel type: PSNR (peak: the 99.5th percentile of the brain),
SSIM (Gaussian window, sigma 1.5 voxels), MAE (share of that peak), sharpness (mean gradient over that of the truth),
noise (median second difference over that of the truth), seam (jump across the border of the hole over the jumps beside
it; 1: invisible). Slice PSNR is over the whole slice of a square, known pixels included. Differences are paired, case
by case. Holes in one brain are not independent, so a subject's differences are averaged first; the median and p, of the
two-sided Wilcoxon signed-rank test, are over subjects. p is not corrected for the number of comparisons; with fewer
than six subjects it cannot be below 0.05. "Worse in" and "worst" count single cases.

**The worst cases.** The mean squared error is the sum of three parts (Kobayashi & Salam 2000): brightness, the squared
mean error; contrast, the squared difference of the standard deviations of fill and truth; structure, twice the product
of both times one minus their correlation. The sentence names the part in which the fill does worst against harmonic."""


def write_report(run: Results, commands: Sequence[str], folder: Path, downstream: Path | None = None) -> None:
    """Write Experiment.md, and its pictures into the folder Figures beside it.

    Args:
        run: the results.
        commands: those that made these results.
        folder: is created if it does not exist.
        downstream: output folder of `medinpaint downstream`; its section becomes part of the report.
    """
    pictures = folder / FIGURES
    pictures.mkdir(parents=True, exist_ok=True)
    figures = [
        *model_figures(run, pictures),
        *ablation_figures(run, pictures),
        *size_figures(run, pictures),
        *worst_figures(run, pictures),
        *samples_figure(run, pictures),
        *training_figure(run, pictures),
    ]
    parts = [
        "# Experiment",
        *_method(run, commands),
        *_results(run),
        *_study(run),
        *_claims(run),
        *([] if downstream is None else [_downstream_section(downstream, pictures)]),
        "## Figures",
        "The pictures show the case of each kind with the median PSNR (mean over the models; the lower one of two). "
        "Above each picture: PSNR in the hole.",
        *(f"![{caption}]({FIGURES}/{name})\n\n*{caption}.*" for name, caption in figures),
        *_cost(run),
        *_tables(run),
    ]
    with replacing(folder / "Experiment.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _downstream_section(downstream: Path, pictures: Path) -> str:
    """The section of `medinpaint downstream`. Its pictures are copied."""
    text = (downstream / SECTION).read_text(encoding="utf-8").strip()
    for picture in downstream.glob("*.png"):
        shutil.copyfile(picture, pictures / picture.name)
        text = text.replace(f"]({picture.name})", f"]({FIGURES}/{picture.name})")
    return text


def _method(run: Results, commands: Sequence[str]) -> Iterator[str]:
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
    yield "```\n" + "\n".join(commands) + "\n```"
    if run.models:
        heading = ("model", "kind", "kernel", "latent", "weights, MB", "epochs", "training, min", "trained on")
        yield markdown(heading, [_card(run, name) for name in run.cards])
    yield DEFINITIONS


def _card(run: Results, name: str) -> list[str]:
    model = next(model for model in run.models if model.name == name)
    card, size = model.card, (model.folder / WEIGHTS).stat().st_size / 1e6
    kind = card["kind"] if card["kind"] == "linear" else card["kind"].upper()
    numbers = (kind, card["kernel"] or "-", card["latent"], f"{size:.1f}", card["epochs"])
    return [name, *map(str, numbers), f"{card['training_minutes']:.0f}, {card['device']}", card["data"]["name"]]


def _results(run: Results) -> Iterator[str]:
    yield "## Results"
    yield "Median PSNR (dB) / SSIM in the hole; bold: the best."
    for group in dict.fromkeys(row.group for row in run.rows):
        rows = [row for row in run.rows if row.group == group and full_name(row.fill) == row.fill]
        fills, kinds = by_fill(rows), list(dict.fromkeys(row.kind for row in rows))
        counts = [len({row.case for row in rows if row.kind == kind}) for kind in kinds]
        heading = (group, *(f"{kind}, n = {n}" for kind, n in zip(kinds, counts, strict=True)))
        columns = []
        for kind in kinds:
            psnr = _with_best_bold(_medians(rows, fills, kind, "psnr"), 2)
            ssim = _with_best_bold(_medians(rows, fills, kind, "ssim"), 3)
            columns.append([f"{decibels} / {similarity}" for decibels, similarity in zip(psnr, ssim, strict=True)])
        yield markdown(heading, [*zip(fills, *columns, strict=True)])


def _medians(rows: Sequence[Row], fills: Sequence[str], kind: str, measure: str) -> list[float]:
    """The median measurement of each fill; NaN if the fill has no case."""
    values = [[getattr(row, measure) for row in rows if row.fill == fill and row.kind == kind] for fill in fills]
    return [float(np.median(each)) if each else float("nan") for each in values]


def _with_best_bold(values: Sequence[float], decimals: int) -> list[str]:
    """The values as text, the highest in bold."""
    shown = ["-" if np.isnan(value) else f"{value:.{decimals}f}" for value in values]
    best = f"{np.nanmax(values):.{decimals}f}"
    return [f"**{text}**" if text == best else text for text in shown]


def _study(run: Results) -> Iterator[str]:
    kinds = [kind for kind in run.kinds if kind.startswith(SQUARE)]
    if not kinds or not run.models:
        return
    yield "## Comparison with the study"
    groups = list(by_group_and_kind([row for row in run.rows if row.kind in kinds]))
    parts = [[row for _, rows in groups for row in rows], *(rows for _, rows in groups)]
    lines = []
    for (kind, kernel, part), psnr in STUDY_PSNR.items():
        name = next((name for name, c in run.cards.items() if (c["kind"], c["kernel"]) == (kind, kernel)), "")
        label = " ".join((kind.upper(), str(kernel), part)).strip()
        figures = [", ".join(f"{value:.2f}" for value in psnr), f"{np.mean(psnr):.2f}"]
        lines.append([label, *figures, *(_slice_mean(rows, f"{name} {STUDY} {part}".strip()) for rows in parts)])
    others = [*(f"{name} {STUDY}" for name, card in run.cards.items() if card["kind"] == "linear"), *REFERENCES]
    lines += [[name, "-", "-", *(_slice_mean(rows, name) for rows in parts)] for name in others]
    heading = ("all our squares", *(f"{group}, {kind}" for (group, kind), _ in groups))
    yield (
        "PSNR of the whole slice, dB: the study's three slices and their mean, and the means of our slices, filled "
        "by the same procedure (`--preset study`)."
    )
    yield markdown(("", "study", "mean", *heading), lines)
    width, height, _ = run.models[0].card["grid"]["size"]
    higher = 10 * np.log10(width * height / STUDY_SIDE**2)
    yield (
        f"The study's squares were about 12 to 25 % of the side. Its slices had {STUDY_SIDE} x {STUDY_SIDE} pixels. "
        f"Ours have {width} x {height}, and more of them are known, so the same error in the same square gives "
        f"{higher:.2f} dB more here. The images also differ."
    )


def _slice_mean(rows: Sequence[Row], fill: str) -> str:
    values = [row.slice_psnr for row in rows if row.fill == fill]
    return f"{np.mean(values):.2f} (n = {len(values)})" if values else "-"


def _claims(run: Results) -> Iterator[str]:
    yield "## The study's claims"
    large = f"squares of {LARGE[SQUARE]} % or more, ellipsoids of {LARGE[ELLIPSOID]} mm or more"
    yield (
        f"Over all kinds of holes and all scans, once in squares filled as in the study, once in volumes filled with "
        f"all of MedInpaint. A positive difference supports the claim. Holds: positive with p < {LEVEL}; in part: in "
        f"some comparisons; does not hold: negative with p < {LEVEL}; otherwise not decided. Large: {large}. "
        "The last claim is not the study's: it says what the networks gain or lose against the linear model."
    )
    found = claims(run.rows, run.cards)
    rows = zip(*found.values(), strict=True)
    yield markdown(("claim", *found), [(both[0].text, *(f"**{claim.verdict}**" for claim in both)) for both in rows])
    yield "\n".join(_effort(run))
    for where, some in found.items():
        lines = [line for claim in some for line in _finding_lines(claim)]
        if lines:
            yield f"### In {where}"
            heading = ("claim", "difference", "of", "subjects", "cases", "median", "worse in", "p", "verdict")
            yield markdown(heading, lines)


def _finding_lines(claim: Claim) -> Iterator[list[str]]:
    for finding in claim.findings:
        result, decibels = finding.result, finding.measure == "psnr"
        median = f"{result.median:+.2f} dB" if decibels else f"{result.median:+.3f}"
        numbers = [str(result.subjects), str(result.cases), median, str(result.worse), p_value(result.p)]
        yield [claim.text, finding.compared, finding.measure.upper(), *numbers, finding.verdict]


def _effort(run: Results) -> Iterator[str]:
    """The verdict on the claim about epochs and their time, VAE against GAN, from the cards."""
    text = f"VAEs need {FEWER:.0%} fewer epochs of {FEWER:.0%} less time each".replace("%", " %")
    pairs = vaes_and_gans(run.cards)
    if not pairs:
        yield f"- {text}: **{UNTESTED}**."
    for vae, gan in pairs:
        a, b = run.cards[vae], run.cards[gan]
        times = [card["training_minutes"] / card["epochs"] for card in (a, b)]
        saved = (1 - a["epochs"] / b["epochs"], 1 - times[0] / times[1])
        verdict = HOLDS if min(saved) >= FEWER else FAILS
        yield (
            f"- {text}: **{verdict}** for {vae} and {gan} ({a['epochs']} epochs of {times[0]:.1f} min against "
            f"{b['epochs']} of {times[1]:.1f} min)."
        )


def _cost(run: Results) -> Iterator[str]:
    yield "## Time and memory"
    yield "Median seconds and median peak of additional memory (MB) of a fill. Alignment and slicing come before it."
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


def _tables(run: Results) -> Iterator[str]:
    yield "## All measurements"
    yield "Median [quartiles]; below each table the paired differences."
    for (group, kind), rows in by_group_and_kind(run.rows):
        yield f"### {group}, {kind}"
        yield full_table(rows)
        table = paired_table(rows, run.cards)
        if table:
            yield table
