"""The part of a participant's report that is about one scan. The worker that filled the scan makes it."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ...pipeline import Result
from ...volumes.image import like
from ..scans import Scan
from . import pictures

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_LESIONS = 6  # with pictures; the table has all


def render_section(scan: Scan, image: sitk.Image, hole: np.ndarray, result: Result, others: Sequence[str] = ()) -> str:
    """HTML with its pictures inside.

    Args:
        scan: what was filled.
        image: the input.
        hole: bool (z, y, x) on its grid.
        result: the result of the engine.
        others: further contrasts that were filled with the same anatomy.
    """
    report = result.report
    shown, mask = pictures.window(image, hole), like(image, hole.astype(np.uint8))
    highest = max((lesion["uncertainty"] or 0 for lesion in report["lesions"]), default=0) * 2
    lesions = []
    for lesion in report["lesions"][:MOST_LESIONS]:
        point = lesion["position_mm"]
        masks = pictures.planes(mask, point, pictures.CLOSE)
        after = pictures.planes(result.image, point, pictures.CLOSE)
        unsure = result.uncertainty and pictures.planes(result.uncertainty, point, pictures.CLOSE)
        lesions.append(
            {
                "before": uri(pictures.grey(pictures.planes(image, point, pictures.CLOSE), shown)),
                "after": uri(pictures.grey(after, shown)),
                "outline": uri(pictures.outline(masks)),
                "heat": uri(pictures.heat(unsure, masks, highest)) if unsure else None,
            }
        )
    centre = pictures.largest_lesion(image, report)
    whole, model, section = (
        pictures.planes(volume, centre, pictures.WHOLE)[:1] for volume in (image, result.generated, mask)
    )
    overview = {
        "scan": uri(pictures.grey(whole, shown)),
        "outline": uri(pictures.outline(section)),
        "template": uri(pictures.template_outline(model[0], shown)),
    }
    return templates().get_template("section.html").render(
        scan=scan,
        key="s" + hashlib.sha256(scan.name.encode()).hexdigest()[:10],  # a name that CSS allows
        report=report,
        others=others,
        lesions=lesions,
        overview=overview,
        chart=uri(pictures.chart(image, hole, result.generated, report["contrast"])),
        highest=highest,
    )  # fmt: skip


def uri(png: bytes) -> str:
    """A PNG as part of a page."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")


@cache
def templates() -> Environment:
    """The templates of the pages. What they are filled with is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    return environment


def number(value: float | None) -> str:
    """Three digits, as a reader wants them; whole numbers have all of theirs. Empty for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
