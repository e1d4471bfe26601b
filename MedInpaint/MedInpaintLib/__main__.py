"""`python -m MedInpaintLib`: the `medinpaint` command."""

import sys

from .command.main import program

sys.exit(program())
