"""`python -m MedInpaintLib`: the `medinpaint` command."""

import sys

from .cli import main

sys.exit(main())
