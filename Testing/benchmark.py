"""Measure this computer by hand: `medinpaint benchmark` with its options, see --help."""

import sys

from MedInpaintLib.command.main import main

sys.exit(main(["benchmark", *sys.argv[1:]]))
