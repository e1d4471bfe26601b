"""Inpainting of volume nodes: here and now, or in a child process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from ..errors import InputError
from ..settings import Settings
from . import torch_setup
from .child.process import InpaintingProcess
from .parameters import MedInpaintParameterNode
from .scene import nodes, results

SHARED = "medInpaintLogic"  # its name among slicer.modules


@dataclass(frozen=True)
class Job:
    """A lesion to fill in a child process; the fields are those of `MedInpaintLogic.inpaint`."""

    volumeNode: slicer.vtkMRMLScalarVolumeNode
    maskNode: slicer.vtkMRMLNode
    settings: Settings
    segmentId: str | None = None
    outputVolumeNode: slicer.vtkMRMLScalarVolumeNode | None = None
    keepGenerated: bool = False
    keepUncertainty: bool = False
    also: tuple[slicer.vtkMRMLScalarVolumeNode, ...] = ()  # further scans of the head, filled together with the first


class MedInpaintLogic(ScriptedLoadableModuleLogic):
    """Inpainting of volume nodes: here and now, or in a child process."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self._model = Settings().model  # of the latest run
        self._onProgress = self._onResult = self._onFailed = self._onStopped = None  # of the run that is under way
        self._process = InpaintingProcess(
            lambda *told: self._onProgress(*told),
            logging.warning,
            lambda *found: self._onResult(*found),
            lambda sentence: self._onFailed(sentence),
        )

    def getParameterNode(self):
        """The choices of the panel."""
        return MedInpaintParameterNode(super().getParameterNode())

    @staticmethod
    def settings(parameters) -> Settings:
        """The engine's settings from the choices of the panel. Raises InputError if they make no sense."""
        hasLabels = parameters.lesion is not None and parameters.lesion.IsA("vtkMRMLLabelMapVolumeNode")
        return Settings(
            model=parameters.modelFolder or parameters.model,
            device=parameters.device.value,
            label=parameters.label or None if hasLabels else None,
            grow=parameters.grow,
            iterations=parameters.iterations,
            prior_weight=parameters.priorWeight if parameters.priorWeight >= 0 else None,
            window=parameters.window,
            weighting=parameters.weighting,
            prior=parameters.prior,
            slicewise=parameters.slicewise,
            residual=parameters.residual,
            blending=parameters.blending.value,
            noise=parameters.noise,
            seed=parameters.seed,
        )

    @staticmethod
    def torchProblem() -> str:
        """Why PyTorch cannot be used, in one sentence; empty if it can be used. This does not import it."""
        return torch_setup.problem()

    @staticmethod
    def installTorch() -> bool:
        """Ask, then install what PyTorch needs; False: the user said no. Raises InputError if that is not possible."""
        return torch_setup.prepare()

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

        With a list of scans of one head, all are filled with one anatomy, and a list of nodes is returned.

        Args:
            volumeNode: the scan, a T1-weighted brain MRI; or a list of scans, of which the first leads. They are not
                changed.
            maskNode: the segmentation or label map node that marks the lesion; or a list with one for each scan, and
                None for that of the first.
            outputVolumeNode: the node that takes the result; None: a new node beside the scan. None with a list.
            segmentId: the segment that is the lesion; None: all segments.
            settings: None: the defaults.
            progress: called with the done fraction, the stage and a message. It may raise MedInpaintLib.Cancelled,
                which ends the run; the scene is then as it was.
            keepGenerated: also add the generated volume, before blending, as a node.
            keepUncertainty: also add the posterior standard deviation of the fill as a node. Without the residual
                there is none.

        Raises:
            InputError: the input cannot be used; the message says why and what to do. The scene is as it was.
        """
        from .. import inpaint

        if problem := self.torchProblem():
            raise InputError(problem)
        if isinstance(volumeNode, (list, tuple)):
            if outputVolumeNode is not None:
                raise InputError(_("Several scans have several results: leave out the output volume."))
            keep = keepGenerated, keepUncertainty
            return _inpaintTogether(volumeNode, maskNode, segmentId, settings or Settings(), progress, *keep)
        image, mask = _images(volumeNode, maskNode, segmentId)
        result = inpaint(image, mask, settings or Settings(), progress)
        return results.add_results([volumeNode], [result], outputVolumeNode, keepGenerated, keepUncertainty)[0]

    @staticmethod
    def exportDicom(resultNode, folder: str) -> None:
        """Write a result as a derived DICOM series that says that it is synthetic, into a new folder.

        Args:
            resultNode: what inpaint() returned, for a scan that was loaded with Slicer's DICOM module.
            folder: does not exist, or is empty.

        Raises:
            InputError: that is not possible; the message says why and what to do. No folder is made.
        """
        from .scene.dicom import export_series

        export_series(resultNode, folder)

    @property
    def running(self) -> bool:
        """Whether a run is under way in the child process."""
        return self._process.running

    def prepare(self, model: str | None = None) -> None:
        """Start the child process if there is none and PyTorch can be used, so that the next run begins at once.

        Args:
            model: the model that the child loads; None: that of the latest run.
        """
        if not self.torchProblem():
            self._process.prepare(model or self._model)

    def start(
        self,
        job: Job,
        onProgress: Callable[[float, str, str, float | None], None],
        onDone: Callable[..., None],
        onFailed: Callable[[str], None],
        onStopped: Callable[[], None] = lambda: None,
    ) -> None:
        """Fill the lesion in a child process: like inpaint(), but it returns at once and the application stays usable.

        Args:
            job: what to fill.
            onProgress: called with the done fraction, the stage, a message, and the seconds left (None: unknown).
            onDone: called with the node of the result, and those of the further scans.
            onFailed: called with one sentence.
            onStopped: called if the run is cancelled or closed, by whomever.

        Raises:
            InputError: the input cannot be used, or another run is under way.
        """
        from ..models.registry import find_model

        if self.running:
            raise InputError(_("Inpainting is under way: wait for it or cancel it."))
        find_model(job.settings.model)
        image, mask = _images(job.volumeNode, job.maskNode, job.segmentId)
        further = _furtherImages(job.also)

        def done(*found):
            keep = job.keepGenerated, job.keepUncertainty
            try:
                added = results.add_results([job.volumeNode, *job.also], found, job.outputVolumeNode, *keep)
            except InputError as error:
                onFailed(str(error))
            except ValueError:
                logging.exception("MedInpaint could not add the result")
                onFailed(_("The scan was changed while it was being filled: press Inpaint again."))
            except Exception as error:
                logging.exception("MedInpaint could not add the result")
                onFailed(_("The result could not be added ({error}): see the application log.").format(error=error))
            else:
                onDone(*added)

        def failed(sentence):
            logging.info(self._process.log)
            self.prepare()  # the child may have crashed
            onFailed(sentence)

        self._onProgress, self._onResult, self._onFailed = onProgress, done, failed
        self._onStopped, self._model = onStopped, job.settings.model
        self._process.start(image, mask, job.settings, further)

    def cancel(self) -> None:
        """End the run, if there is one, with its temporary files. A new child process waits for the next run."""
        if self.running:
            self.close()
            self.prepare()

    def close(self) -> None:
        """End the child process, if there is one, also if a run is under way: it knows a scan of the scene."""
        running = self.running
        self._process.stop()
        if running:
            self._onStopped()


def sharedLogic() -> MedInpaintLogic:
    """The logic that the panel and the effects share: the application has one child process."""
    if getattr(slicer.modules, SHARED, None) is None:
        setattr(slicer.modules, SHARED, MedInpaintLogic())
    return getattr(slicer.modules, SHARED)


def forgetSharedLogic() -> None:
    """End the child process of the shared logic; whoever asks next gets a new logic, of the code as it is then."""
    sharedLogic().close()
    setattr(slicer.modules, SHARED, None)


def _inpaintTogether(volumeNodes, maskNodes, segmentId, settings, progress, keepGenerated, keepUncertainty):
    """Fill several scans of one head, and return the nodes of the results. After a failure there is none of them."""
    from .. import inpaint_together
    from .scene.images import lesion_image, scan_image

    if not isinstance(maskNodes, (list, tuple)):
        maskNodes = [maskNodes] + [None] * (len(volumeNodes) - 1)
    if not volumeNodes or len(maskNodes) != len(volumeNodes):
        raise InputError(_("Give one mask for each scan, or one for all."))
    pairs = zip(volumeNodes, maskNodes, strict=True)
    masks = [None if mask is None else lesion_image(volume, mask, segmentId) for volume, mask in pairs]
    found = inpaint_together([scan_image(volume) for volume in volumeNodes], masks, settings, progress)
    return results.add_results(volumeNodes, found, None, keepGenerated, keepUncertainty)


def _images(volumeNode, maskNode, segmentId: str | None):
    """The scan and the mask as the engine takes them."""
    from .scene.images import lesion_image, scan_image

    return scan_image(volumeNode), lesion_image(volumeNode, maskNode, segmentId)


def _furtherImages(volumeNodes):
    """Further scans as the engine takes them."""
    from .scene.images import scan_image

    if not all(map(nodes.in_scene, volumeNodes)):
        raise InputError(_("A scan that is also to be filled was deleted: choose the scans under 'Also fill' again."))
    return [scan_image(volume) for volume in volumeNodes]
