"""The tables of `medinpaint benchmark`, as rows of text with a heading."""

from __future__ import annotations

from collections.abc import Sequence

from ...settings import Settings

STAGES = ("starting", "reading", "aligning", "optimising", "blending", "writing", "all")


def case_rows(cases: Sequence[dict]) -> list[tuple]:
    """The results of `benchmark.measure`, a row for each case."""
    heading = ("model", "device", "slices", *(f"{stage} (s)" for stage in STAGES))
    return [(*heading, "slices/s", "steps/s", "cores (s)", "peak (MiB)", "PSNR (dB)")] + [
        (
            _model_name(case["model"]),
            case["device"],
            case["slices"],
            *(f"{case['seconds'][stage]:.1f}" for stage in STAGES),
            f"{case['slices_per_second']:.2f}",
            f"{case['steps_per_second']:.0f}",
            *("" if case[key] is None else f"{case[key]:.0f}" for key in ("core_seconds", "peak_mib")),
            f"{case['psnr']:.1f}",
        )
        for case in cases
    ]


def change_rows(earlier: Sequence[dict], cases: Sequence[dict]) -> list[tuple]:
    """A row for each case that was also measured earlier: both measurements and the ratio earlier / now."""
    before = {case_key(case): case for case in earlier}
    heading = ("model", "device", "slices", *(f"{stage} (s)" for stage in STAGES))
    table_rows: list[tuple] = [(*heading, "cores (s)", "peak (MiB)", "PSNR (dB)")]
    for case in cases:
        if other := before.get(case_key(case)):
            pairs = [(other["seconds"][stage], case["seconds"][stage], ".1f") for stage in STAGES]
            pairs += [(other[key], case[key], ".0f") for key in ("core_seconds", "peak_mib")]
            quality = f"{other['psnr']:.1f} -> {case['psnr']:.1f}"
            about = (_model_name(case["model"]), case["device"], case["slices"])
            table_rows.append((*about, *(_change(*pair) for pair in pairs), quality))
    return table_rows


def case_key(case: dict) -> tuple:
    """What identifies a case: model, device and hole."""
    return case["model"], case["device"], case["hole"]


def _change(before: float | None, now: float | None, number_format: str) -> str:
    if before is None or now is None:
        return ""
    return f"{before:{number_format}} -> {now:{number_format}}" + (f" ({before / now:.2f}x)" if now > 0 else "")


def _model_name(model: str) -> str:
    return f"{model} (default)" if model == Settings().model else model
