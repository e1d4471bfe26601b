"""The `medinpaint` command: the method from files to files."""
