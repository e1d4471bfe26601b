"""The engine in a child process of Slicer: how it is started, what it reads and writes, how it ends."""
