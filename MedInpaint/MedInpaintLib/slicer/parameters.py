"""The choices of the panel: saved with the scene, and connected to the widgets of the .ui file by Slicer."""

from enum import Enum
from typing import Annotated, Union

from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

AUTOMATIC = -0.1  # this prior weight means: use the one that suits the kind of model


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
    """The choices of the panel.

    inputVolume - the scan.
    also - further scans of the same head, which are filled together with it.
    lesion - the segmentation or label map that marks the lesion.
    allSegments - all segments together are the lesion; otherwise it is the one that is selected in the segment editor.
    label - the label that is the lesion; 0: all labels.
    outputVolume - the volume that takes the result; None: a new one.
    result - the result that is compared with its scan.
    model - the name of a shipped model.
    modelFolder - the folder of another model, used in place of the shipped one; empty: use the shipped one.
    priorWeight - below 0: the weight that suits the kind of model.
    keepGenerated, keepUncertainty - also add the generated volume, and the posterior standard deviation.
    The other fields are those of MedInpaintLib.Settings.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    also: list[vtkMRMLScalarVolumeNode]
    lesion: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    allSegments: bool = False
    label: Annotated[int, WithinRange(0, 65535)] = 0
    grow: Annotated[float, WithinRange(0, 10)] = 0.0
    outputVolume: vtkMRMLScalarVolumeNode
    result: vtkMRMLScalarVolumeNode
    model: str = "linear"
    modelFolder: str = ""
    device: Device = Device.AUTO
    iterations: Annotated[int, WithinRange(0, 1000)] = 40
    priorWeight: Annotated[float, WithinRange(AUTOMATIC, 100)] = AUTOMATIC
    window: Annotated[int, WithinRange(3, 31)] = 7
    weighting: bool = True
    prior: bool = True
    slicewise: bool = False
    residual: bool = True
    blending: Blending = Blending.MATERN
    noise: bool = False
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    keepGenerated: bool = False
    keepUncertainty: bool = True
