"""Measure this computer with `medinpaint benchmark`, by hand; takes the command's options, see --help."""

import sys

from MedInpaintLib.command.main import main

sys.exit(main(["benchmark", *sys.argv[1:]]))
