"""The module in 3D Slicer: its panel and its logic, the way between MRML nodes and the engine, the child process."""
