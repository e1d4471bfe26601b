"""`python -m MedInpaintLib`: the `medinpaint` command."""

import sys

from .cli import program

sys.exit(program())
