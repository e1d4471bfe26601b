"""One thread for each worker of pytest-xdist and its child processes, because the workers share the cores.

With more threads than cores, threads of torch wait for each other: a search takes up to seven times longer. This module
is imported before numpy, torch and SimpleITK, which read the variables once.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ |= {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
