"""The registration of the effect Inpaint in the Segment Editor."""

from pathlib import Path

SOURCE = Path(__file__).parent / "MedInpaintEffect" / "SegmentEditorEffect.py"


def registerEffect():
    """Add the effect to all segment editors, once the application has started."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource(SOURCE.as_posix())  # Slicer wants forward slashes on Windows, too
    effect.self().register()
