"""The tests that run in the desktop: samples, panel, painting, views, scenes; and, with PyTorch, runs."""

import tempfile
import time
import unittest
from pathlib import Path

import numpy as np
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from .. import __version__
from ..resources import resources_folder
from ..settings import Settings
from .logic import MedInpaintLogic, sharedLogic
from .parameters import Blending
from .samples import CATEGORY, SAMPLES
from .scene import results

REPORT = {
    "versions": {"medinpaint": __version__},
    "model": {"name": Settings().model},
    "settings": Settings().to_dict(),
    "lesion": {"volume_ml": 0.9, "count": 1},
    "lesions": [{"volume_ml": 0.9, "index": [60, 90, 80], "ring": 100, "fill": 98, "uncertainty": 4, "seam": 1.0}],
    "alignment": {"quality": 0.9, "poor": False, "reused": False},
    "contrast": {"name": "T1"},
    "seam": 1.0,
    "device": "cpu",
    "seconds": {"total": 1.0},
    "warnings": [],
}


class MedInpaintTest(ScriptedLoadableModuleTest):
    """What only the desktop can show."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run every test, for Reload and Test; those that need PyTorch only if it is there."""
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            self.setUp()
            try:
                getattr(self, name)()
            except unittest.SkipTest as reason:
                self.delayDisplay(f"{name}: {reason}")
            else:
                self.delayDisplay(f"{name}: passed")

    # Without PyTorch

    def test_samples(self):
        """Both samples are registered and can be loaded."""
        import SampleData

        sources = slicer.modules.sampleDataSources[CATEGORY]
        self.assertEqual([source.sampleName for source in sources], [scan[1] for scan, _lesion in SAMPLES.values()])
        for source in sources:
            volume, segmentation = SampleData.downloadSamples(source.sampleName)
            self.assertTrue(volume.IsA("vtkMRMLScalarVolumeNode"))
            self.assertEqual(segmentation.GetSegmentation().GetNumberOfSegments(), 1)

    def test_opening(self):
        """The panel opens in an empty scene, and chooses a scan that comes later."""
        panel = self._panel()
        self.assertFalse(panel.ui.inpaintButton.enabled)
        volume = self._volume()
        slicer.app.processEvents()
        self.assertIs(panel.logic.getParameterNode().inputVolume, volume)
        self.assertTrue(panel.ui.paintButton.enabled)

    def test_paint_new(self):
        """Paint new takes up the brush; pressed again, it keeps what was painted."""
        volume = self._volume()
        panel = self._panel()
        panel.ui.paintButton.click()
        segmentation, first = panel.logic.getParameterNode().lesion, panel.lesion.segmentId
        self.assertTrue(panel.lesion.editor.visible)
        self.assertEqual(panel.lesion.editor.mrmlSegmentEditorNode().GetActiveEffectName(), "Paint")
        self.assertTrue(panel.ui.inpaintButton.enabled)
        slicer.util.updateSegmentBinaryLabelmapFromArray(self._ball(volume), segmentation, first, volume)
        panel.ui.paintButton.click()
        self.assertIs(panel.logic.getParameterNode().lesion, segmentation)
        self.assertNotEqual(panel.lesion.segmentId, first)
        self.assertEqual(segmentation.GetSegmentation().GetNumberOfSegments(), 2)

    def test_also_fill(self):
        """Another scan can be ticked, the chosen one and results are not listed, and the tick is kept."""
        volume, other = self._volume(), self._volume()
        panel = self._panel()
        panel.logic.getParameterNode().inputVolume = volume
        self._result(volume)
        slicer.app.processEvents()
        panel.ui.alsoFillSelector.check(other)
        slicer.app.processEvents()
        self.assertEqual(list(panel.logic.getParameterNode().also), [other])
        self.assertEqual(panel.further.volumes, (other,))
        panel.logic.getParameterNode().inputVolume = other
        self.assertEqual(panel.further.volumes, ())

    def test_views(self):
        """A result is shown over its scan, and the views say that it holds invented tissue."""
        volume = self._volume()
        panel = self._panel()
        result = self._result(volume)
        panel.onDone(result)
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        self.assertEqual(composite.GetBackgroundVolumeID(), volume.GetID())
        self.assertEqual(composite.GetForegroundVolumeID(), result.GetID())
        self.assertTrue(panel.mark.isShownIn("Red"))
        panel.ui.flipButton.click()
        self.assertEqual(composite.GetForegroundOpacity(), 0)
        self.assertFalse(panel.mark.isShownIn("Red"))
        self.assertEqual(panel.ui.lesionTable.rowCount, 1)

    def test_scene_close(self):
        """The panel forgets a scene that is closed, and works with the next one."""
        self._volume()
        panel = self._panel()
        panel.ui.paintButton.click()
        slicer.mrmlScene.Clear()
        slicer.app.processEvents()
        self.assertFalse(panel.ui.inpaintButton.enabled)
        self.assertIsNone(panel.lesion.editor.segmentationNode())
        self._volume()
        slicer.app.processEvents()
        self.assertTrue(panel.ui.paintButton.enabled)

    def test_saved_scene(self):
        """The choices, the result, its report and its scan come back with the scene."""
        volume = self._volume()
        result = self._result(volume)
        parameters = MedInpaintLogic().getParameterNode()
        parameters.inputVolume, parameters.result, parameters.blending = volume, result, Blending.SLICES
        parameters.grow = 1.5
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrb")
            self.assertTrue(slicer.util.saveScene(path))
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(path)
        result = slicer.util.getNode("* inpainted (synthetic)")
        self.assertEqual(results.report_of(result), REPORT)
        parameters = MedInpaintLogic().getParameterNode()
        self.assertIs(parameters.result, result)
        self.assertIs(parameters.inputVolume, results.input_of(result))
        self.assertIs(parameters.blending, Blending.SLICES)
        self.assertEqual(parameters.grow, 1.5)

    def test_effect(self):
        """The Segment Editor has the effect Inpaint, with its options; it waits for a segment and a scan."""
        volume = self._volume()
        editor, effect = self._effect(volume, *results.new_lesion(volume))
        self.assertTrue(effect.applyButton.enabled)
        self.assertFalse(effect.cancelButton.enabled)
        effect.growSpinBox.setValue(1.5)
        self.assertEqual(editor.mrmlSegmentEditorNode().GetAttribute("Inpaint.Grow"), "1.5")
        editor.setActiveEffect(None)

    # With PyTorch

    def test_console(self):
        """The logic alone, in this process."""
        volume, segmentation, segmentId, ball = self._painted()
        result = MedInpaintLogic().inpaint(
            volume, segmentation, segmentId=segmentId, settings=Settings(iterations=5), keepUncertainty=True
        )
        self._check(volume, result, ball)
        uncertainty = results.uncertainty_of(result)
        deviation = slicer.util.arrayFromVolume(uncertainty)
        self.assertTrue((deviation[ball] > 0).all())
        self.assertFalse(deviation[~ball].any())
        self.assertIs(results.input_of(uncertainty), volume)
        self.assertEqual(uncertainty.GetDisplayNode().GetColorNode().GetName(), "Iron")

    def test_run(self):
        """The button, the child process, the result."""
        volume, _segmentation, _segmentId, ball = self._painted()
        panel = self._panel()
        panel.logic.getParameterNode().iterations = 5
        self.assertTrue(panel.ui.inpaintButton.enabled)
        panel.ui.inpaintButton.click()
        self.assertTrue(panel.logic.running)
        self.assertFalse(panel.ui.inpaintButton.enabled)
        self._wait(lambda: not panel.logic.running)
        self._check(volume, panel.logic.getParameterNode().result, ball)
        panel.ui.uncertaintyCheckBox.click()
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        uncertainty = results.uncertainty_of(panel.logic.getParameterNode().result)
        self.assertEqual(composite.GetForegroundVolumeID(), uncertainty.GetID())

    def test_second_run(self):
        """A second press uses the alignment of the first one."""
        self._painted()
        panel = self._panel()
        panel.logic.getParameterNode().iterations = 1
        for reused in (False, True):
            panel.ui.inpaintButton.click()
            self._wait(lambda: not panel.logic.running)
            report = results.report_of(panel.logic.getParameterNode().result)
            self.assertEqual(report["alignment"]["reused"], reused)

    def test_effect_run(self):
        """Apply of the effect fills the selected segment, and shows the result."""
        volume, segmentation, segmentId, ball = self._painted()
        sharedLogic().getParameterNode().iterations = 1
        editor, effect = self._effect(volume, segmentation, segmentId)
        effect.applyButton.click()
        self.assertTrue(effect.cancelButton.enabled)
        self._wait(lambda: not sharedLogic().running)
        result = slicer.util.getNode("* inpainted (synthetic)")
        self._check(volume, result, ball)
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        self.assertEqual(composite.GetForegroundVolumeID(), result.GetID())
        editor.setActiveEffect(None)

    def test_cancel(self):
        """Cancel ends the child within two seconds and leaves the scene as it was."""
        self._painted()
        panel = self._panel()
        nodes = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
        panel.ui.inpaintButton.click()
        self._wait(lambda: panel.ui.progressBar.value > 0)
        started = time.monotonic()
        panel.ui.cancelButton.click()
        self.assertLess(time.monotonic() - started, 2)
        self.assertFalse(panel.logic.running)
        slicer.app.processEvents()
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"), nodes)

    # What they share

    def _volume(self):
        """The MS patient's scan."""
        return slicer.util.loadVolume(str(resources_folder() / "SampleData" / "MSPatient26_T1.nii.gz"))

    def _panel(self):
        slicer.util.selectModule("MedInpaint")
        slicer.app.processEvents()
        return slicer.modules.medinpaint.widgetRepresentation().self()

    def _effect(self, volume, segmentation, segmentId):
        """A segment editor, and its effect Inpaint, active for this segment."""
        editor = slicer.qMRMLSegmentEditorWidget()
        editor.setMRMLScene(slicer.mrmlScene)
        editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
        editor.setSegmentationNode(segmentation)
        editor.setSourceVolumeNode(volume)
        editor.setCurrentSegmentID(segmentId)
        editor.setActiveEffectByName("Inpaint")
        return editor, editor.activeEffect().self()

    def _ball(self, volume):
        """A ball of radius 6 mm in the left hemisphere, uint8 (z, y, x)."""
        shape, spacing = slicer.util.arrayFromVolume(volume).shape, volume.GetSpacing()[::-1]
        axes = np.ogrid[tuple(slice(0, n) for n in shape)]
        centre = [n * share for n, share in zip(shape, (0.55, 0.5, 0.38), strict=True)]
        distance = sum(((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, spacing, strict=True))
        return (distance < 6**2).astype(np.uint8)

    def _painted(self):
        """The scan and a segmentation with the ball, if PyTorch is there."""
        if problem := MedInpaintLogic.torchProblem():
            self.skipTest(problem)
        volume = self._volume()
        segmentation, segmentId = results.new_lesion(volume)
        ball = self._ball(volume)
        slicer.util.updateSegmentBinaryLabelmapFromArray(ball, segmentation, segmentId, volume)
        return volume, segmentation, segmentId, ball > 0

    def _result(self, volume):
        """A result that is a copy of the scan."""
        from .scene.images import scan_image

        return results.result_node(volume, scan_image(volume), REPORT)

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
