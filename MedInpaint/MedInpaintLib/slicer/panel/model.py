"""The choice of a model: one that is shipped, or the folder of another one."""

from slicer.i18n import tr as _

from ...errors import InputError
from ...settings import PRESETS, Settings
from ..parameters import Blending


class ModelSection:
    """The widgets that choose a model.

    Args:
        ui: the widgets of the panel, by name.
    """

    def __init__(self, ui):
        from ...models.registry import shipped_models

        self.ui = ui
        self._parameters = None
        self.ui.modelComboBox.addItem(_("default (recommended)"), Settings().model)
        for model in shipped_models():
            if model.name != Settings().model:
                self.ui.modelComboBox.addItem(model.name, model.name)
        self.ui.modelComboBox.connect("currentIndexChanged(int)", self.onModelChosen)
        self.ui.studyButton.connect("clicked()", self.onStudy)
        self.ui.modelFolderPathLineEdit.connect("currentPathChanged(QString)", self.onModelFolderChosen)

    def setParameters(self, parameters):
        """Follow these choices; None: follow none."""
        self._parameters = parameters

    def update(self):
        """Show which model is chosen, and what it was trained on."""
        if not self._parameters:
            return
        model, folder = self._parameters.model, self._parameters.modelFolder
        box, edit = self.ui.modelComboBox, self.ui.modelFolderPathLineEdit
        wasBlocked = box.blockSignals(True)
        box.setCurrentIndex(box.findData(model))
        box.blockSignals(wasBlocked)
        if edit.currentPath != folder:  # writing it would move the cursor to the end
            edit.setCurrentPath(folder)
        box.setEnabled(not folder)
        self.ui.modelDescriptionLabel.setText(description(folder or model))

    def onModelChosen(self, index):
        """Use a shipped model."""
        if self._parameters:
            self._parameters.model = self.ui.modelComboBox.itemData(index)

    def onStudy(self):
        """Choose the settings of the study; all others stay."""
        if self._parameters:
            for name, value in PRESETS["study"].items():
                setattr(self._parameters, name, Blending(value) if name == "blending" else value)

    def onModelFolderChosen(self, path):
        """Use the model of a folder."""
        if self._parameters:
            self._parameters.modelFolder = path


def description(model: str) -> str:
    """What a model is and what it was trained on; if it cannot be read, why."""
    from ...models.registry import find_model

    try:
        card = find_model(model).card
        if card["kernel"] is None:
            kind = _("Linear model (principal components)")
        else:
            kind = _("{kind} with kernels of {kernel} pixels").format(kind=card["kind"].upper(), kernel=card["kernel"])
        return _("{kind}, trained on {count} scans of {data}.").format(
            kind=kind,
            count=len(card["training_subjects"]),
            data=card["data"]["name"],
        )
    except InputError as error:
        return str(error)
    except KeyError:
        return _("Its card does not say what it was trained on.")
