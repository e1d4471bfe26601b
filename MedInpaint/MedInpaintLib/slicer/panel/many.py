"""Many scans: a table of pairs, which are filled one after another; what fails is said in its row."""

import logging
from pathlib import Path

import qt
from slicer.i18n import tr as _

from ...errors import InputError
from ..logic import Job
from ..scene import results
from ..scene.pairs import pairs_of_folder, pairs_of_scene

STATE = 2  # column


class ManySection:
    """The table and its buttons.

    Args:
        ui: the widgets of the panel, by name.
        logic: runs the engine.
        isReady: called before the first run; False: it must not start.
        onChanged: called when a run begins and ends.
    """

    def __init__(self, ui, logic, isReady, onChanged):
        self.ui, self.logic = ui, logic
        self._isReady, self._onChanged = isReady, onChanged
        self._parameters = None
        self._pairs = []
        self._waiting = []  # rows
        self._row = None  # that is being filled
        self.ui.manySceneButton.connect("clicked()", self.onSceneButton)
        self.ui.manyFolderButton.connect("clicked()", self.onFolderButton)
        self.ui.manyInpaintButton.connect("clicked()", self.onInpaintButton)

    @property
    def running(self) -> bool:
        """Whether rows are being filled."""
        return self._row is not None or bool(self._waiting)

    def setParameters(self, parameters):
        """Follow these choices; None: follow none. Pairs of a scene that closes are forgotten."""
        self._parameters = parameters
        if parameters is None:
            self._waiting, self._row = [], None
            self._show([])

    def update(self):
        """Enable what can be pressed."""
        busy = self.running or self.logic.running
        for button in (self.ui.manySceneButton, self.ui.manyFolderButton):
            button.setEnabled(not busy and self._parameters is not None)
        self.ui.manyInpaintButton.setEnabled(not busy and bool(self._pairs))

    def onSceneButton(self):
        """List the pairs of the scene."""
        self._show(pairs_of_scene())

    def onFolderButton(self):
        """List the pairs of a folder that the user chooses."""
        folder = qt.QFileDialog.getExistingDirectory(None, _("Folder with scans and lesions"))
        if folder:
            self._show(pairs_of_folder(Path(folder)))

    def onInpaintButton(self):
        """Fill all rows, one after another."""
        if self.running or self.logic.running or not self._isReady():
            return
        self._waiting = list(range(len(self._pairs)))
        for row in self._waiting:
            self._say(row, _("waiting"))
        self._next()

    def _next(self):
        if not self._waiting or self._parameters is None:
            self._row = None
            self._onChanged()
            return
        row = self._row = self._waiting.pop(0)
        pair = self._pairs[row]
        try:
            scan, lesion = pair.load()
            self.logic.start(
                Job(scan, lesion, self.logic.settings(self._parameters)),
                lambda fraction, stage, message, left: self._say(row, f"{100 * fraction:.0f} %"),
                lambda result: self._finish(row, self._doneText(result), result),
                lambda sentence: self._finish(row, sentence),
                lambda: self._onStopped(row),
            )
        except InputError as error:
            self._finish(row, str(error))
        except Exception as error:
            logging.exception("MedInpaint could not fill a scan")
            self._finish(row, _("It could not be filled ({error}).").format(error=error))
        self._onChanged()

    def _finish(self, row, text, result=None):
        """Say how a row ended, and go on with the next one."""
        try:
            self._pairs[row].finish(result)
        except InputError as error:
            text = str(error)
        self._say(row, text)
        qt.QTimer.singleShot(0, self._next)  # not from here: many failures would be a deep recursion

    def _onStopped(self, row):
        """The run was cancelled: so are all that wait."""
        for each in (row, *self._waiting):
            self._say(each, _("cancelled"))
        self._waiting, self._row = [], None
        self._pairs[row].finish(None)
        self._onChanged()

    @staticmethod
    def _doneText(result) -> str:
        report = results.report_of(result)
        text = _("done, {ml:.3g} ml").format(ml=report["lesion"]["volume_ml"])
        if report["alignment"]["poor"]:
            text += " " + _("Alignment with the model: check it.")
        return " ".join([text, *report["warnings"]])

    def _show(self, pairs):
        self._pairs = pairs
        table = self.ui.manyTable
        table.setRowCount(len(pairs))
        for row, pair in enumerate(pairs):
            for column, text in enumerate((*pair.names, "")):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        self.update()

    def _say(self, row, text):
        item = self.ui.manyTable.item(row, STATE)
        if item is not None:
            item.setText(text)
            item.setToolTip(text)
