"""MRML nodes and the engine's images: from one to the other, and how a result is shown."""
