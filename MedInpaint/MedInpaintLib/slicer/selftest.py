"""The test that runs in the desktop: the console, the panel, a cancelled run, a saved scene. It needs PyTorch."""

import tempfile
import time
from pathlib import Path

import numpy as np
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from ..resources import resources_folder
from ..settings import Settings
from .logic import MedInpaintLogic
from .parameters import Blending
from .scene import results


class MedInpaintTest(ScriptedLoadableModuleTest):
    """What only the desktop can show: the console, the panel, a cancelled run, a saved scene."""

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
        self.assertIs(results.input_of(uncertainty), volume)
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
        volume, segmentation, segmentId, _ball = self._painted()
        settings = Settings(iterations=2)
        result = MedInpaintLogic().inpaint(volume, segmentation, segmentId=segmentId, settings=settings)
        parameters = MedInpaintLogic().getParameterNode()
        parameters.inputVolume, parameters.result, parameters.blending = volume, result, Blending.SLICES
        parameters.grow = 1.5
        report, name = results.report_of(result), result.GetName()
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrb")
            self.assertTrue(slicer.util.saveScene(path))
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(path)
        result = slicer.util.getNode(name)
        self.assertEqual(results.report_of(result), report)
        parameters = MedInpaintLogic().getParameterNode()
        self.assertIs(parameters.result, result)
        self.assertIs(parameters.inputVolume, results.input_of(result))
        self.assertIs(parameters.blending, Blending.SLICES)
        self.assertEqual(parameters.grow, 1.5)

    def _painted(self):
        """The MS patient's scan, and a segmentation with a ball of radius 6 mm in the left hemisphere."""
        volume = slicer.util.loadVolume(str(resources_folder() / "SampleData" / "MSPatient26_T1.nii.gz"))
        segmentation, segmentId = results.new_lesion(volume)
        voxels = slicer.util.arrayFromVolume(volume)
        spacing = volume.GetSpacing()[::-1]
        axes = np.ogrid[tuple(slice(0, n) for n in voxels.shape)]
        centre = [n * share for n, share in zip(voxels.shape, (0.55, 0.5, 0.38), strict=True)]
        distance = sum(((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, spacing, strict=True))
        ball = (distance < 6**2).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(ball, segmentation, segmentId, volume)
        return volume, segmentation, segmentId, ball > 0

    def _panel(self, volume, segmentation, segmentId):
        slicer.util.selectModule("MedInpaint")
        panel = slicer.modules.medinpaint.widgetRepresentation().self()
        parameters = panel.logic.getParameterNode()
        parameters.inputVolume, parameters.lesion, parameters.segmentId = volume, segmentation, segmentId
        parameters.iterations = 5
        slicer.app.processEvents()
        return panel

    def _check(self, volume, result, ball):
        before, after = slicer.util.arrayFromVolume(volume), slicer.util.arrayFromVolume(result)
        self.assertEqual(before.dtype, after.dtype)
        self.assertTrue((before[~ball] == after[~ball]).all())
        self.assertTrue((before[ball] != after[ball]).any())
        self.assertIs(results.input_of(result), volume)
        self.assertEqual(results.report_of(result)["lesion"]["count"], 1)

    def _wait(self, condition, seconds=300):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "it took too long")
            slicer.app.processEvents()
            time.sleep(0.02)
