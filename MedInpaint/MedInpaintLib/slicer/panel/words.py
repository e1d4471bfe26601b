"""The figures of a run in words."""

from slicer.i18n import tr as _

VISIBLE_SEAM = 1.5  # a border half again as steep as the tissue beside it; 0.8 to 1.0 is usual, see evaluation.md


def isBorderVisible(seam: float) -> bool:
    """Whether the border of a fill can be seen."""
    return seam > VISIBLE_SEAM


def statusText(report: dict, further: list[dict] | tuple = ()) -> str:
    """What a run did and how well, with its warnings; `further` are the reports of scans filled together with it."""
    lesion = report["lesion"]
    text = _("{ml:.3g} ml in {count} lesion(s) filled in {seconds:.0f} s.").format(
        ml=lesion["volume_ml"], count=lesion["count"], seconds=report["seconds"]["total"]
    )
    contrast = report["contrast"]["name"]
    text += " " + (_("Unknown contrast.") if contrast == "other" else _("Looks like {name}.").format(name=contrast))
    alignment = report["alignment"]
    text += " " + (
        _("Alignment with the model: check it") if alignment["poor"] else _("Alignment with the model: good")
    )
    text += _(" (that of the run before).") if alignment["reused"] else "."
    if report["seam"] is not None:
        visible = isBorderVisible(report["seam"])
        text += " " + (_("Border of the fill: check it.") if visible else _("Border of the fill: good."))
    if further:
        text += " " + _("{count} scans were filled with one anatomy: each result can be chosen under Compare.").format(
            count=len(further) + 1
        )
    return " ".join([text, *dict.fromkeys(sentence for each in (report, *further) for sentence in each["warnings"])])


def notShownText(name: str, error: Exception) -> str:
    """That a result, a node of this name, is there but not on the screen."""
    return _("The result '{name}' was added, but it cannot be shown ({error}): see the application log.").format(
        name=name, error=error
    )


def statusToolTip(report: dict) -> str:
    """The same in numbers."""
    text = _("Computed on {device}. Alignment {quality:.2f}: correlation with the model's average brain.").format(
        device=report["device"], quality=report["alignment"]["quality"]
    )
    if report["seam"] is not None:
        text += " " + _("Seam {seam:.2f}: 1 is an invisible border.").format(seam=report["seam"])
    return text
