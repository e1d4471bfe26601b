"""The effect Inpaint of the Segment Editor. Slicer loads its file under the name of this folder."""
