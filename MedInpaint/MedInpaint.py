"""MedInpaint in 3D Slicer: paint a lesion in a T1-weighted brain MRI, press one button, get a filled volume."""

import logging
from collections.abc import Callable
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Union

import qt
import slicer
import vtk
from MedInpaintLib import InputError, Settings, mrml, nodes, views
from MedInpaintLib.models import find_model, shipped_models
from MedInpaintLib.process import InpaintingProcess
from MedInpaintLib.resources import resources_folder
from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

TORCH = ">=2.2"
AUTOMATIC = -0.1  # the prior weight that leaves the choice to the kind of model
SAMPLES = {  # sample: its scan and its lesion in Resources/SampleData, with their nodes' names and SHA256 checksums
    "MSPatient26": (
        (
            "MSPatient26_T1.nii.gz",
            "MS patient",
            "a46a05129ab5010263d30812d1699460c116f803afc18ecdf983a162a0c5c4fc",
        ),
        (
            "MSPatient26_lesions.nii.gz",
            "MS patient lesions",
            "5a9cc6ffbe3a5d2df67fba4207c0585b2f02a5f9f7f31e0e7e3f57cc59c2c5ac",
        ),
    ),
    "HealthyHead": (
        (
            "HealthyHead_T1.nii.gz",
            "Healthy head",
            "66eeafb465559148e0222d4079558a8354eb09b9efabcc47cd5b8af6eed51907",
        ),
        (
            "HealthyHead_hole.nii.gz",
            "Healthy head hole",
            "2321c43d178db083b8af970dc4eae9819b147be5ca22cac954e152cfdfb28acc",
        ),
    ),
}
EDITOR = "MedInpaint"  # singleton tag of the segment editor's parameters
EFFECTS = ("Paint", "Draw", "Erase", "Threshold", "Islands", "Smoothing")


class MedInpaint(ScriptedLoadableModule):
    """What the application shows of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("MedInpaint")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        self.parent.dependencies = ["Segmentations", "Volumes"]
        self.parent.contributors = ["MedInpaint developers"]
        self.parent.helpText = _(
            "Fills a lesion in a T1-weighted brain MRI with the tissue a healthy brain would have there, so that "
            "registration, segmentation and volumetry are not thrown off by it. Voxels outside the lesion stay as they "
            "are. For research only: what is filled in is plausible, not true. More in the "
            '<a href="https://github.com/MedInpaint/SlicerMedInpaint">documentation</a>.'
        )
        self.parent.acknowledgementText = _(
            "Method: Yeh et al. 2017, Semantic Image Inpainting with Deep Generative Models, carried over to "
            "variational autoencoders and structural MRI. Models trained on OpenNeuro ds002748 (Bezmaternykh et al. "
            "2021). Samples: 3D-MR-MS (Lesjak et al. 2018) and OpenfMRI ds000011 (Foerde et al. 2006)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Add the samples that come with the module to the Sample Data module."""
    import SampleData

    resources = resources_folder()
    SampleData.SampleDataLogic.registerCustomSampleDataCategory("MedInpaint", title=_("MedInpaint"))
    for sample, files in SAMPLES.items():
        names, nodes, checksums = zip(*files, strict=True)
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="MedInpaint",
            sampleName=f"MedInpaint{sample}",
            sampleDescription=nodes[0],
            thumbnailFileName=str(resources / "Icons" / f"{sample}.png"),
            uris=[(resources / "SampleData" / name).as_uri() for name in names],
            fileNames=list(names),
            nodeNames=list(nodes),
            checksums=[f"SHA256:{checksum}" for checksum in checksums],
            loadFileTypes=["VolumeFile", "SegmentationFile"],
        )


class Device(Enum):
    """Where the search runs; the values are those of Settings.device."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self):
        """The text in the panel."""
        return {
            "auto": _("automatic"),
            "cpu": _("processor (CPU)"),
            "cuda": _("NVIDIA graphics card (CUDA)"),
            "mps": _("Apple graphics (MPS)"),
        }[self.value]


class Blending(Enum):
    """How the generated tissue is joined to the scan; the values are those of Settings.blending."""

    MATERN = "matern"
    VOLUME = "3d"
    SLICES = "2d"
    NONE = "none"

    def label(self):
        """The text in the panel."""
        return {
            "matern": _("seamlessly in the volume (Matérn)"),
            "3d": _("Poisson, in the volume (3-D)"),
            "2d": _("Poisson, slice by slice (2-D)"),
            "none": _("off"),
        }[self.value]


@parameterNodeWrapper
class MedInpaintParameterNode:
    """What is chosen in the panel; saved and restored with the scene.

    inputVolume - the scan.
    lesion - the segmentation or label map that marks its lesion.
    segmentId - the segment that is the lesion; empty: all segments.
    label - the label that is the lesion; 0: all labels.
    outputVolume - the volume that takes the result; none: a new one.
    result - the result that is compared with its scan.
    model, modelFolder - the name of a shipped model; a model's folder, which goes before it.
    restarts - 0: as many as suit the kind of model.
    priorWeight - below 0: what suits the kind of model.
    keepGenerated, keepUncertainty - also add the generated volume, that of the uncertainty.
    The others are those of MedInpaintLib.Settings.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    lesion: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    segmentId: str = ""
    label: Annotated[int, WithinRange(0, 65535)] = 0
    grow: Annotated[float, WithinRange(0, 10)] = 0.0
    outputVolume: vtkMRMLScalarVolumeNode
    result: vtkMRMLScalarVolumeNode
    model: str = "vae3"
    modelFolder: str = ""
    device: Device = Device.AUTO
    iterations: Annotated[int, WithinRange(0, 1000)] = 40
    restarts: Annotated[int, WithinRange(0, 32)] = 0
    average: Annotated[int, WithinRange(1, 32)] = 1
    priorWeight: Annotated[float, WithinRange(AUTOMATIC, 100)] = AUTOMATIC
    window: Annotated[int, WithinRange(3, 31)] = 7
    weighting: bool = True
    prior: bool = True
    conditioning: bool = True
    blending: Blending = Blending.MATERN
    texture: bool = True
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    keepGenerated: bool = False
    keepUncertainty: bool = False


class MedInpaintLogic(ScriptedLoadableModuleLogic):
    """Inpainting of volume nodes: here and now, or in a child process."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self._process = None

    def getParameterNode(self):
        """The choices of the panel."""
        return MedInpaintParameterNode(super().getParameterNode())

    @staticmethod
    def settings(parameters) -> Settings:
        """The engine's settings from the panel's choices. Raises InputError if they make no sense."""
        labelled = parameters.lesion is not None and parameters.lesion.IsA("vtkMRMLLabelMapVolumeNode")
        return Settings(
            model=parameters.modelFolder or parameters.model,
            device=parameters.device.value,
            label=parameters.label or None if labelled else None,
            grow=parameters.grow,
            iterations=parameters.iterations,
            restarts=parameters.restarts or None,
            average=parameters.average,
            prior_weight=parameters.priorWeight if parameters.priorWeight >= 0 else None,
            window=parameters.window,
            weighting=parameters.weighting,
            prior=parameters.prior,
            conditioning=parameters.conditioning,
            blending=parameters.blending.value,
            texture=parameters.texture,
            seed=parameters.seed,
        )

    @staticmethod
    def torchInstalled() -> bool:
        """Whether PyTorch is there; it is not loaded to find out."""
        try:
            version("torch")
        except PackageNotFoundError:
            return False
        return True

    @staticmethod
    def installTorch() -> bool:
        """Ask whether PyTorch may be installed, and do it. Raises InputError without Slicer's PyTorch extension."""
        try:
            from PyTorchUtils import PyTorchUtilsLogic
        except ModuleNotFoundError as error:
            raise InputError(_("Install the PyTorch extension in the Extension Manager, then try again.")) from error
        return PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=TORCH) is not None

    def inpaint(
        self,
        volumeNode,
        maskNode,
        outputVolumeNode=None,
        segmentId: str | None = None,
        settings: Settings | None = None,
        progress: Callable[[float, str, str], None] | None = None,
        keepGenerated: bool = False,
        keepUncertainty: bool = False,
    ):
        """Fill the lesion of a scan and return the volume node with the result; the caller waits for it.

        Args:
            volumeNode: the scan, a T1-weighted brain MRI; it stays as it is.
            maskNode: the segmentation or label map node that marks the lesion.
            outputVolumeNode: takes the result; None: a new node beside the scan.
            segmentId: the segment that is the lesion; None: all segments.
            settings: how; the defaults if None.
            progress: called with the done fraction, the stage and a message; may raise MedInpaintLib.Cancelled, which
                ends the run and leaves the scene as it was.
            keepGenerated: also add the generated volume, before blending, as a node.
            keepUncertainty: also add the fill's standard deviation as a node; there is none without conditioning.

        Raises:
            InputError: the input cannot be used; its message says why and what to do. The scene is as it was.
        """
        from MedInpaintLib import inpaint

        if not self.torchInstalled():
            raise InputError(_("PyTorch is not installed: install it with MedInpaintLogic.installTorch()."))
        settings = settings or Settings()
        image, mask = mrml.scan_image(volumeNode), mrml.lesion_image(volumeNode, maskNode, segmentId)
        result = inpaint(image, mask, settings, progress)
        return self._addNodes(volumeNode, outputVolumeNode, result, keepGenerated, keepUncertainty)

    @property
    def running(self) -> bool:
        """Whether a child process is at work."""
        return self._process is not None and self._process.running

    def start(
        self,
        volumeNode,
        maskNode,
        outputVolumeNode,
        segmentId: str | None,
        settings: Settings,
        keepGenerated: bool,
        keepUncertainty: bool,
        onProgress: Callable[[float, str, str, float | None], None],
        onDone: Callable[[object], None],
        onFailed: Callable[[str], None],
    ) -> None:
        """Fill the lesion in a child process: as inpaint(), but returns at once and the application stays usable.

        Args:
            onProgress: called with the done fraction, the stage, a message, and the seconds left, None if unknown.
            onDone: called with the result's node.
            onFailed: called with one sentence.

        Raises:
            InputError: the input cannot be used, or a run is under way.
        """
        if self.running:
            raise InputError(_("Inpainting is under way: wait for it or cancel it."))
        find_model(settings.model)
        image, mask = mrml.scan_image(volumeNode), mrml.lesion_image(volumeNode, maskNode, segmentId)

        def done(result):
            try:
                node = self._addNodes(volumeNode, outputVolumeNode, result, keepGenerated, keepUncertainty)
            except InputError as error:
                onFailed(str(error))
            else:
                onDone(node)

        def failed(sentence):
            logging.info(process.log)
            onFailed(sentence)

        process = self._process = InpaintingProcess(onProgress, logging.warning, done, failed)
        process.start(image, mask, settings)

    def cancel(self) -> None:
        """End the child process, if there is one; nothing of it is left."""
        if self._process is not None:
            self._process.stop()

    @staticmethod
    def _addNodes(volumeNode, outputVolumeNode, result, keepGenerated: bool, keepUncertainty: bool):
        with nodes.undone_on_failure(slicer.mrmlScene):  # the result last, as it may replace what cannot be had back
            if keepGenerated:
                mrml.generated_node(volumeNode, result.generated)
            if keepUncertainty and result.uncertainty is not None:
                mrml.uncertainty_node(volumeNode, result.uncertainty)
            return mrml.result_node(volumeNode, result.image, result.report, outputVolumeNode)


class MedInpaintWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameters = None
        self._guiTag = None
        self._lesion = None  # the segmentation whose segments are listed
        self._shown = None  # the result and the report that the table shows

    # The panel's life

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/MedInpaint.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = MedInpaintLogic()

        self.ui.segmentEditor.setMaximumNumberOfUndoStates(10)
        self.ui.segmentEditor.setEffectNameOrder(EFFECTS)
        self.ui.segmentEditor.unorderedEffectsVisible = False
        self.ui.segmentEditor.segmentationNodeSelectorVisible = False
        self.ui.segmentEditor.sourceVolumeNodeSelectorVisible = False
        self.ui.segmentEditor.switchToSegmentationsButtonVisible = False
        self._setEditorNode()
        self.ui.segmentEditor.setMRMLScene(slicer.mrmlScene)
        for model in shipped_models():
            self.ui.modelComboBox.addItem(model.name, model.name)
        self.ui.resultSelector.addAttribute("vtkMRMLScalarVolumeNode", mrml.REPORT)

        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.ui.paintButton.connect("clicked()", self.onPaintButton)
        self.ui.segmentComboBox.connect("currentIndexChanged(int)", self.onSegmentChosen)
        self.ui.modelComboBox.connect("currentIndexChanged(int)", self.onModelChosen)
        self.ui.modelFolderPathLineEdit.connect("currentPathChanged(QString)", self.onModelFolderChosen)
        self.ui.inpaintButton.connect("clicked()", self.onInpaintButton)
        self.ui.cancelButton.connect("clicked()", self.onCancelButton)
        self.ui.fadeSliderWidget.connect("valueChanged(double)", self.onFade)
        self.ui.flipButton.connect("clicked()", self.onFlipButton)
        self.ui.lesionTable.connect("currentCellChanged(int,int,int,int)", self.onLesionChosen)
        slicer.app.connect("aboutToQuit()", self.logic.cancel)
        self.initializeParameterNode()

    def cleanup(self):
        """Called before the module is unloaded and when the application ends."""
        self.logic.cancel()
        slicer.app.disconnect("aboutToQuit()", self.logic.cancel)
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        """Called when the user opens the module."""
        self.ui.segmentEditor.installKeyboardShortcuts()
        self._setEditorNode()
        self.initializeParameterNode()
        self.ui.segmentEditor.updateWidgetFromMRML()
        if not self.logic.torchInstalled():
            self.ui.statusLabel.setText(_("PyTorch is not installed yet: Inpaint will offer to install it."))

    def exit(self):
        """Called when the user opens another module; a run goes on."""
        self.ui.segmentEditor.setActiveEffect(None)
        self.ui.segmentEditor.uninstallKeyboardShortcuts()
        self.ui.segmentEditor.removeViewObservations()

    def onSceneStartClose(self, caller=None, event=None):
        """The scene is about to close: nothing of it may be used any more, and a run has lost its scan."""
        if self.logic.running:
            self._endRun(_("The scene was closed: the run was ended."))
        self.ui.segmentEditor.setSegmentationNode(None)
        self.ui.segmentEditor.removeViewObservations()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller=None, event=None):
        """The scene is there again, empty or loaded."""
        if self.parent.isEntered:
            self._setEditorNode()
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Use the scene's choices; choose the first scan if there is none."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameters.inputVolume:
            volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            scans = [node for node in volumes if not node.IsA("vtkMRMLLabelMapVolumeNode")]
            self._parameters.inputVolume = scans[0] if scans else None

    def setParameterNode(self, parameters):
        """Follow these choices in place of the former ones; None: follow none."""
        if self._parameters:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._update)
        self._parameters = parameters
        if self._parameters:
            self._guiTag = self._parameters.connectGui(self.ui)
            self.addObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._update)
        self._update()

    # What the choices mean for the panel

    def _update(self, caller=None, event=None):
        self._updateLesion()
        self._updateModel()
        self._updateButtons()
        self._updateResult()

    def _updateLesion(self):
        lesion = self._parameters.lesion if self._parameters else None
        segmentation = lesion if lesion and lesion.IsA("vtkMRMLSegmentationNode") else None
        if segmentation is not self._lesion:
            for event in (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved):
                if self._lesion:
                    self.removeObserver(self._lesion, event, self.onSegmentsChanged)
                if segmentation:
                    self.addObserver(segmentation, event, self.onSegmentsChanged)
            self._lesion = segmentation
        self.onSegmentsChanged()
        for widget in (self.ui.segmentLabel, self.ui.segmentComboBox, self.ui.segmentEditor):
            widget.setVisible(segmentation is not None)
        for widget in (self.ui.labelLabel, self.ui.labelSpinBox):
            widget.setVisible(lesion is not None and segmentation is None)
        if self._parameters:
            if self.ui.segmentEditor.segmentationNode() is not segmentation:
                self.ui.segmentEditor.setSegmentationNode(segmentation)
            if self.ui.segmentEditor.sourceVolumeNode() is not self._parameters.inputVolume:
                self.ui.segmentEditor.setSourceVolumeNode(self._parameters.inputVolume)

    def onSegmentsChanged(self, caller=None, event=None):
        """List the segmentation's segments."""
        chosen = self._parameters.segmentId if self._parameters else ""
        if self._lesion and chosen and self._lesion.GetSegmentation().GetSegment(chosen) is None:
            self._parameters.segmentId = chosen = ""  # a segment of another segmentation, or one that was removed
        box = self.ui.segmentComboBox
        wasBlocked = box.blockSignals(True)
        box.clear()
        box.addItem(_("all segments"), "")
        if self._lesion:
            segmentation = self._lesion.GetSegmentation()
            for segmentId in segmentation.GetSegmentIDs():
                box.addItem(segmentation.GetSegment(segmentId).GetName(), segmentId)
        box.setCurrentIndex(max(0, box.findData(chosen)))
        box.blockSignals(wasBlocked)

    def _updateModel(self):
        if not self._parameters:
            return
        own = self._parameters.modelFolder
        for widget, show in (
            (self.ui.modelComboBox, lambda box: box.setCurrentIndex(box.findData(self._parameters.model))),
            (self.ui.modelFolderPathLineEdit, lambda edit: edit.setCurrentPath(own)),
        ):
            wasBlocked = widget.blockSignals(True)
            show(widget)
            widget.blockSignals(wasBlocked)
        self.ui.modelComboBox.setEnabled(not own)
        try:
            card = find_model(own or self._parameters.model).card
            text = _("{kind} with kernels of {kernel} pixels, trained on {count} scans of {data}.").format(
                kind=card["kind"].upper(),
                kernel=card["kernel"],
                count=len(card["training_subjects"]),
                data=card["data"]["name"],
            )
        except InputError as error:
            text = str(error)
        except KeyError:
            text = _("Its card does not say what it was trained on.")
        self.ui.modelDescriptionLabel.setText(text)

    def _updateButtons(self):
        running = self.logic.running
        obstacle = self._obstacle()
        self.ui.inpaintButton.setEnabled(not obstacle)
        self.ui.inpaintButton.setToolTip(obstacle or _("Fill the lesion; the result is a new volume."))
        self.ui.cancelButton.setEnabled(running)
        self.ui.progressBar.setVisible(running)
        self.ui.paintButton.setEnabled(self._parameters is not None and self._parameters.inputVolume is not None)
        self.ui.keepUncertaintyCheckBox.setEnabled(self._parameters is not None and self._parameters.conditioning)

    def _obstacle(self) -> str:
        """Why Inpaint cannot be pressed; empty if it can."""
        if self.logic.running:
            return _("Inpainting is under way: wait for it or cancel it.")
        if not self._parameters or not self._parameters.inputVolume:
            return _("Load a T1-weighted brain MRI and choose it as the scan.")
        if not self._parameters.lesion:
            return _("Paint the lesion, or choose the segmentation or label map that marks it.")
        return ""

    def _updateResult(self):
        result = self._parameters.result if self._parameters else None
        report = mrml.report_of(result) if result else None
        if self._shown == (result, report):
            return
        self._shown = result, report
        lesions = report["lesions"] if report else []
        table = self.ui.lesionTable
        wasBlocked = table.blockSignals(True)
        table.setRowCount(len(lesions))
        for row, lesion in enumerate(lesions):
            position = mrml.world_position(result, lesion["index"])
            cells = (
                f"{lesion['volume_ml']:.2f}",
                ", ".join(f"{x:.0f}" for x in position),
                *(
                    "-" if lesion.get(key) is None else f"{lesion[key]:.3g}"  # older reports have no uncertainty
                    for key in ("ring", "fill", "uncertainty", "seam")
                ),
            )
            for column, text in enumerate(cells):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        table.blockSignals(wasBlocked)
        for widget in (self.ui.fadeSliderWidget, self.ui.flipButton, table):
            widget.setEnabled(result is not None)

    # What the user does

    def onPaintButton(self):
        """Make a segmentation for the scan and take up the brush."""
        segmentation, segmentId = mrml.new_lesion(self._parameters.inputVolume)
        self._parameters.lesion = segmentation
        self._parameters.segmentId = segmentId
        slicer.util.setSliceViewerLayers(background=self._parameters.inputVolume)
        self.ui.segmentEditor.setCurrentSegmentID(segmentId)
        self.ui.segmentEditor.setActiveEffectByName("Paint")

    def onSegmentChosen(self, index):
        """Take a segment, or all, as the lesion."""
        if self._parameters:
            self._parameters.segmentId = self.ui.segmentComboBox.itemData(index)

    def onModelChosen(self, index):
        """Take a shipped model."""
        if self._parameters:
            self._parameters.model = self.ui.modelComboBox.itemData(index)

    def onModelFolderChosen(self, path):
        """Take the user's own model."""
        if self._parameters:
            self._parameters.modelFolder = path

    def onInpaintButton(self):
        """Start a run."""
        parameters = self._parameters
        self.ui.segmentEditor.setActiveEffect(None)
        try:
            if not self.logic.torchInstalled() and not self.logic.installTorch():
                return
            with slicer.util.WaitCursor():
                self.logic.start(
                    parameters.inputVolume,
                    parameters.lesion,
                    parameters.outputVolume,
                    parameters.segmentId or None if self._lesion else None,
                    self.logic.settings(parameters),
                    parameters.keepGenerated,
                    parameters.keepUncertainty,
                    self.onProgress,
                    self.onDone,
                    self.onFailed,
                )
        except InputError as error:
            self.onFailed(str(error))
            return
        except Exception as error:
            logging.exception("MedInpaint could not start")
            self.onFailed(_("The run could not start ({error}): see the application log.").format(error=error))
            return
        self.ui.progressBar.setValue(0)
        self.ui.statusLabel.setText(_("Starting"))
        self._updateButtons()

    def onCancelButton(self):
        """End the run."""
        self._endRun(_("Cancelled: nothing was changed."))

    def _endRun(self, text: str):
        self.logic.cancel()
        self.ui.statusLabel.setText(text)
        self._updateButtons()

    # What a run says

    def onProgress(self, fraction, stage, message, secondsLeft):
        """Show how far the run is."""
        self.ui.progressBar.setValue(round(100 * fraction))
        left = "" if secondsLeft is None else _(", about {seconds:.0f} s left").format(seconds=secondsLeft)
        self.ui.statusLabel.setText(f"{stage}: {message}{left}")

    def onFailed(self, sentence):
        """Say why there is no result."""
        self._endRun(sentence)
        slicer.util.errorDisplay(sentence, windowTitle=_("MedInpaint"))

    def onDone(self, node):
        """Show the result over the scan, at its largest lesion."""
        report = mrml.report_of(node)
        self.ui.statusLabel.setText(statusText(report))
        lesion = self._parameters.lesion if self._parameters else None
        if lesion and lesion.IsA("vtkMRMLSegmentationNode") and lesion.GetDisplayNode():
            lesion.GetDisplayNode().SetVisibility2DFill(False)  # its outline stays, what was filled is seen
        views.compare(mrml.input_of(node), node)
        views.centre_on(node, report["lesions"][0]["index"])
        if self._parameters:
            self._parameters.result = node
        self.ui.fadeSliderWidget.setValue(100)
        self.ui.compareCollapsibleButton.collapsed = False
        self._updateButtons()

    # Comparing

    def onFade(self, percent):
        """Show so much of the result over the scan."""
        views.fade(percent / 100)

    def onFlipButton(self):
        """Show the scan if the result is shown, and the result otherwise."""
        self.ui.fadeSliderWidget.setValue(0 if self.ui.fadeSliderWidget.value > 50 else 100)

    def onLesionChosen(self, row, column=0, formerRow=-1, formerColumn=-1):
        """Show a lesion in the slice views."""
        report = mrml.report_of(self._parameters.result) if self._parameters else None
        if report and 0 <= row < len(report["lesions"]):
            views.compare(mrml.input_of(self._parameters.result), self._parameters.result)
            views.fade(self.ui.fadeSliderWidget.value / 100)
            views.centre_on(self._parameters.result, report["lesions"][row]["index"])

    def _setEditorNode(self):
        """Give the segment editor its own parameters, so that the Segment Editor module's stay as they are."""
        node = slicer.mrmlScene.GetSingletonNode(EDITOR, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)  # the scene owns it
            node.SetSingletonTag(EDITOR)
            node = slicer.mrmlScene.AddNode(node)
        if node is not self.ui.segmentEditor.mrmlSegmentEditorNode():
            self.ui.segmentEditor.setMRMLSegmentEditorNode(node)


def statusText(report: dict) -> str:
    """A run's main figures and warnings."""
    lesion, alignment = report["lesion"], report["alignment"]
    text = _("{ml:.3g} ml in {count} lesion(s) filled in {seconds:.0f} s on {device}. Alignment {quality:.2f}").format(
        ml=lesion["volume_ml"],
        count=lesion["count"],
        seconds=report["seconds"]["total"],
        device=report["device"],
        quality=alignment["quality"],
    )
    if report["seam"] is not None:
        text += _(", seam {seam:.2f} (1 is invisible)").format(seam=report["seam"])
    return " ".join([f"{text}.", *report["warnings"]])


class MedInpaintTest(ScriptedLoadableModuleTest):
    """What only the desktop can show, and needs PyTorch: the console, the panel, a cancelled run, a saved scene."""

    def setUp(self):
        """Start from an empty scene. Build machines have no PyTorch: there is nothing to test there."""
        if not MedInpaintLogic.torchInstalled():
            self.skipTest("PyTorch is not installed: press Inpaint in the panel to install it.")
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run every test."""
        for test in (self.test_console, self.test_panel, self.test_cancel, self.test_saved_scene):
            self.setUp()
            self.delayDisplay(test.__name__)
            test()
        self.delayDisplay("All tests passed")

    def _painted(self):
        """The MS patient's scan, and a segmentation with a ball of 6 mm painted into the left hemisphere."""
        import numpy as np

        volume = slicer.util.loadVolume(str(resources_folder() / "SampleData" / "MSPatient26_T1.nii.gz"))
        segmentation, segmentId = mrml.new_lesion(volume)
        voxels = slicer.util.arrayFromVolume(volume)
        spacing = volume.GetSpacing()[::-1]
        axes = np.ogrid[tuple(slice(0, n) for n in voxels.shape)]
        centre = [n * share for n, share in zip(voxels.shape, (0.55, 0.5, 0.38), strict=True)]
        distance = sum(((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, spacing, strict=True))
        ball = (distance < 6**2).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(ball, segmentation, segmentId, volume)
        return volume, segmentation, segmentId, ball > 0

    def _check(self, volume, result, ball):
        before, after = slicer.util.arrayFromVolume(volume), slicer.util.arrayFromVolume(result)
        self.assertEqual(before.dtype, after.dtype)
        self.assertTrue((before[~ball] == after[~ball]).all())
        self.assertTrue((before[ball] != after[ball]).any())
        self.assertIs(mrml.input_of(result), volume)
        self.assertEqual(mrml.report_of(result)["lesion"]["count"], 1)

    def _panel(self, volume, segmentation, segmentId):
        slicer.util.selectModule("MedInpaint")
        panel = slicer.modules.medinpaint.widgetRepresentation().self()
        parameters = panel.logic.getParameterNode()
        parameters.inputVolume, parameters.lesion, parameters.segmentId = volume, segmentation, segmentId
        parameters.iterations = 5
        slicer.app.processEvents()
        return panel

    def _wait(self, condition, seconds=300):
        import time

        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "it took too long")
            slicer.app.processEvents()
            time.sleep(0.02)

    def test_console(self):
        """The logic alone, in this process."""
        volume, segmentation, segmentId, ball = self._painted()
        result = MedInpaintLogic().inpaint(
            volume, segmentation, segmentId=segmentId, settings=Settings(iterations=5), keepUncertainty=True
        )
        self.assertEqual(result.GetName(), f"{volume.GetName()} inpainted")
        self._check(volume, result, ball)
        uncertainty = slicer.util.getNode(f"{volume.GetName()} uncertainty")
        deviation = slicer.util.arrayFromVolume(uncertainty)
        self.assertTrue((deviation[ball] > 0).all())
        self.assertFalse(deviation[~ball].any())
        self.assertIs(mrml.input_of(uncertainty), volume)
        self.assertEqual(uncertainty.GetDisplayNode().GetColorNode().GetName(), "Iron")

    def test_panel(self):
        """The button, the child process, the result in the views."""
        volume, segmentation, segmentId, ball = self._painted()
        panel = self._panel(volume, segmentation, segmentId)
        self.assertTrue(panel.ui.inpaintButton.enabled)
        panel.ui.inpaintButton.click()
        self.assertTrue(panel.logic.running)
        self.assertFalse(panel.ui.inpaintButton.enabled)
        self._wait(lambda: not panel.logic.running)
        result = panel.logic.getParameterNode().result
        self._check(volume, result, ball)
        self.assertEqual(panel.ui.lesionTable.rowCount, 1)
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        self.assertEqual(composite.GetBackgroundVolumeID(), volume.GetID())
        self.assertEqual(composite.GetForegroundVolumeID(), result.GetID())

    def test_cancel(self):
        """Cancel ends the child within two seconds and leaves the scene as it was."""
        import time

        volume, segmentation, segmentId, _ball = self._painted()
        panel = self._panel(volume, segmentation, segmentId)
        nodes = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
        panel.ui.inpaintButton.click()
        self._wait(lambda: panel.ui.progressBar.value > 0)
        started = time.monotonic()
        panel.ui.cancelButton.click()
        self.assertLess(time.monotonic() - started, 2)
        self.assertFalse(panel.logic.running)
        slicer.app.processEvents()
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"), nodes)

    def test_saved_scene(self):
        """The choices, the result, its report and its scan come back with the scene."""
        import tempfile

        volume, segmentation, segmentId, _ball = self._painted()
        settings = Settings(iterations=2)
        result = MedInpaintLogic().inpaint(volume, segmentation, segmentId=segmentId, settings=settings)
        parameters = MedInpaintLogic().getParameterNode()
        parameters.inputVolume, parameters.result, parameters.blending = volume, result, Blending.SLICES
        parameters.grow = 1.5
        report, name = mrml.report_of(result), result.GetName()
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrb")
            self.assertTrue(slicer.util.saveScene(path))
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(path)
        result = slicer.util.getNode(name)
        self.assertEqual(mrml.report_of(result), report)
        parameters = MedInpaintLogic().getParameterNode()
        self.assertIs(parameters.result, result)
        self.assertIs(parameters.inputVolume, mrml.input_of(result))
        self.assertIs(parameters.blending, Blending.SLICES)
        self.assertEqual(parameters.grow, 1.5)
