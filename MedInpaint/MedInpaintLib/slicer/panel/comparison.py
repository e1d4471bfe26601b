"""The section "Compare": fade between a scan and its result, flip, and the table of lesions."""

import qt

from ..scene import results, views


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
        self.ui.fadeSliderWidget.connect("valueChanged(double)", self.onFade)
        self.ui.flipButton.connect("clicked()", self.onFlipButton)
        self.ui.lesionTable.connect("currentCellChanged(int,int,int,int)", self.onLesionChosen)

    def setParameters(self, parameters):
        """Follow these choices; None: follow none."""
        self._parameters = parameters

    def update(self):
        """Show the lesions of the chosen result."""
        result = self._parameters.result if self._parameters else None
        report = results.report_of(result) if result else None
        if self._shown == (result, report):
            return
        self._shown = result, report
        self._fillTable(result, report["lesions"] if report else [])
        for widget in (self.ui.fadeSliderWidget, self.ui.flipButton, self.ui.lesionTable):
            widget.setEnabled(result is not None)

    def show(self, result, report):
        """Show a new result over its scan, at its largest lesion."""
        views.compare(results.input_of(result), result)
        views.centre_on(result, report["lesions"][0]["index"])
        if self._parameters:
            self._parameters.result = result
        self.ui.fadeSliderWidget.setValue(100)
        self.ui.compareCollapsibleButton.collapsed = False

    def onFade(self, percent):
        """Show the result over the scan with this opacity."""
        views.fade(percent / 100)

    def onFlipButton(self):
        """Show the scan if the result is shown, and the result otherwise."""
        self.ui.fadeSliderWidget.setValue(0 if self.ui.fadeSliderWidget.value > 50 else 100)

    def onLesionChosen(self, row, column=0, formerRow=-1, formerColumn=-1):
        """Show a lesion in the slice views."""
        result = self._parameters.result if self._parameters else None
        report = results.report_of(result)
        if report and 0 <= row < len(report["lesions"]):
            views.compare(results.input_of(result), result)
            views.fade(self.ui.fadeSliderWidget.value / 100)
            views.centre_on(result, report["lesions"][row]["index"])

    def _fillTable(self, result, lesions: list[dict]):
        table = self.ui.lesionTable
        wasBlocked = table.blockSignals(True)
        table.setRowCount(len(lesions))
        for row, lesion in enumerate(lesions):
            position = results.world_position(result, lesion["index"])
            numbers = [lesion.get(key) for key in ("ring", "fill", "uncertainty", "seam")]  # older reports lack some
            cells = (
                f"{lesion['volume_ml']:.2f}",
                ", ".join(f"{x:.0f}" for x in position),
                *("-" if number is None else f"{number:.3g}" for number in numbers),
            )
            for column, text in enumerate(cells):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        table.blockSignals(wasBlocked)
