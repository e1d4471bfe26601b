"""The section "Compare": a result over its scan, its uncertainty, and the table of lesions."""

import qt
from slicer.i18n import tr as _

from ..scene import nodes, results, views
from .words import isBorderVisible


class ComparisonSection:
    """The section "Compare" of the panel.

    Args:
        ui: the widgets of the panel, by name.
    """

    def __init__(self, ui):
        self.ui = ui
        self._parameters = None
        self._shown = None  # the result and the report that the table shows
        self.ui.resultSelector.addAttribute("vtkMRMLScalarVolumeNode", results.REPORT)
        self.ui.resultSelector.connect("nodeActivated(vtkMRMLNode*)", self.onResultChosen)
        self.ui.fadeSliderWidget.connect("valueChanged(double)", self.onFade)
        self.ui.flipButton.connect("clicked()", self.onFlipButton)
        self.ui.uncertaintyCheckBox.connect("clicked()", self.onUncertainty)
        self.ui.lesionTable.connect("cellClicked(int,int)", self.onLesionChosen)
        self.ui.lesionTable.connect("currentCellChanged(int,int,int,int)", self.onLesionChosen)
        self.ui.lesionTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)

    @property
    def _result(self):
        """The chosen result, if it still has voxels."""
        result = self._parameters.result if self._parameters else None
        return result if result and nodes.has_voxels(result.GetImageData()) else None

    def setParameters(self, parameters):
        """Follow these choices; None: follow none."""
        self._parameters = parameters

    def update(self):
        """Show the lesions of the chosen result."""
        result = self._result
        report = results.report_of(result)
        for widget in (self.ui.fadeSliderWidget, self.ui.flipButton, self.ui.lesionTable):
            widget.setEnabled(result is not None)
        hasUncertainty = results.uncertainty_of(result) is not None
        self.ui.uncertaintyCheckBox.setEnabled(hasUncertainty)
        if not hasUncertainty:
            self.ui.uncertaintyCheckBox.setChecked(False)
        if self._shown != (result, report):
            self._shown = result, report
            self._fillTable(result, report["lesions"] if report else [])

    def show(self, result):
        """Choose a new result, and show it over its scan, at its largest lesion."""
        if self._parameters:
            self._parameters.result = result
        self.ui.compareCollapsibleButton.collapsed = False
        self.onResultChosen(result)

    def showScan(self):
        """Show the scan alone, to paint on it."""
        self._setUncertainty(False)
        if views.is_shown(self._result):
            self.ui.fadeSliderWidget.setValue(0)
            views.fade(0)

    def onResultChosen(self, result):
        """Show a result over its scan, at its largest lesion."""
        if not result or not nodes.has_voxels(result.GetImageData()):
            return
        self._setUncertainty(False)
        views.compare(results.input_of(result), result)
        self.ui.fadeSliderWidget.setValue(100)  # views.compare has set the views to it
        report = results.report_of(result)
        if report and report["lesions"]:
            views.centre_on(result, report["lesions"][0]["index"])

    def onFade(self, percent):
        """Show the upper volume with this opacity."""
        views.fade(percent / 100)

    def onFlipButton(self):
        """Show the scan if the result is shown, and the result otherwise."""
        self.ui.fadeSliderWidget.setValue(0 if self.ui.fadeSliderWidget.value > 50 else 100)

    def onUncertainty(self):
        """Show the uncertainty over the result, or the result over its scan."""
        self._compare()
        self.ui.fadeSliderWidget.setValue(100)

    def onLesionChosen(self, row, column=0, formerRow=-1, formerColumn=-1):
        """Show a lesion in the slice views."""
        report = results.report_of(self._result)
        if report and 0 <= row < len(report["lesions"]):
            self._compare()
            views.fade(self.ui.fadeSliderWidget.value / 100)
            views.centre_on(self._result, report["lesions"][row]["index"])

    def _compare(self):
        """Show the chosen result over its scan or, if that is wanted, its uncertainty over the result."""
        uncertainty = results.uncertainty_of(self._result) if self.ui.uncertaintyCheckBox.checked else None
        if uncertainty:
            views.compare(self._result, uncertainty)
            views.show_legend(uncertainty, _("SD of the fill"))
        elif self._result:
            views.compare(results.input_of(self._result), self._result)

    def _setUncertainty(self, shown: bool):
        """Tick or clear the box; if it was ticked for another volume, the views show the result again."""
        if self.ui.uncertaintyCheckBox.checked != shown:
            self.ui.uncertaintyCheckBox.setChecked(shown)
            self._compare()

    def _fillTable(self, result, lesions: list[dict]):
        table = self.ui.lesionTable
        wasBlocked = table.blockSignals(True)
        table.setRowCount(len(lesions))
        for row, lesion in enumerate(lesions):
            position = results.world_position(result, lesion["index"])
            texts = (
                f"{lesion['volume_ml']:.2f}",
                ", ".join(f"{x:.0f}" for x in position),
                number(lesion.get("ring")),
                number(lesion.get("fill")) + number(lesion.get("uncertainty"), " ± {}", ""),
                "-" if lesion.get("seam") is None else borderText(lesion["seam"]),
            )
            for column, text in enumerate(texts):
                cell = qt.QTableWidgetItem(text)
                cell.setToolTip(_("Seam: {seam} (1 is invisible)").format(seam=number(lesion.get("seam"))))
                table.setItem(row, column, cell)
        table.blockSignals(wasBlocked)


def borderText(seam: float) -> str:
    """How visible a border is, in words."""
    return _("check") if isBorderVisible(seam) else _("good")


def number(value: float | None, form: str = "{}", unknown: str = "-") -> str:
    """A number with three digits or all that are before the point; reports of older versions lack some numbers."""
    if value is None:
        return unknown
    return form.format(f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}")
