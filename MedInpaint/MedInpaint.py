"""The Slicer module MedInpaint: what the application shows of it, and the classes that it looks for in this file."""

import slicer
from MedInpaintLib.slicer.effect import registerEffect
from MedInpaintLib.slicer.logic import MedInpaintLogic
from MedInpaintLib.slicer.panel.widget import MedInpaintWidget
from MedInpaintLib.slicer.samples import registerSampleData
from MedInpaintLib.slicer.selftest import MedInpaintTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

__all__ = ["MedInpaint", "MedInpaintLogic", "MedInpaintTest", "MedInpaintWidget"]


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
        slicer.app.connect("startupCompleted()", registerEffect)
