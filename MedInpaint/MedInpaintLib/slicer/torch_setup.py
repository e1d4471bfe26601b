"""PyTorch in Slicer: whether it can be used, and how it is installed. Nothing here imports it."""

from __future__ import annotations

import logging
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version

import slicer
from slicer.i18n import tr as _

from ..errors import InputError

OLDEST = (2, 2)
FIRST_FOR_NUMPY_2 = (2, 3)


def installed() -> bool:
    """Whether PyTorch is installed."""
    return bool(_version("torch"))


def problem() -> str:
    """Why PyTorch cannot be used, and what to do, in one sentence; empty if it can be used."""
    torch = _version("torch")
    if not torch:
        return _("PyTorch is not installed: press Inpaint in the panel, which offers to install it.")
    if torch < OLDEST:
        return _("PyTorch {torch} is too old: press Inpaint in the panel, which offers to install a newer one.").format(
            torch=version("torch")
        )
    if torch < FIRST_FOR_NUMPY_2 and _version("numpy") >= (2,):
        return _(
            "PyTorch {torch} was built for numpy 1 and cannot work with numpy {numpy}: press Inpaint in the panel, "
            "which offers to install what fits."
        ).format(torch=version("torch"), numpy=version("numpy"))
    return ""


def prepare() -> bool:
    """Make PyTorch usable: ask the user, then install what is missing. This takes minutes.

    Returns:
        Whether it can be used now; False: the user said no.

    Raises:
        InputError: it cannot be installed, or Slicer has to restart first.
    """
    if not problem():
        return True
    try:
        if not _numpy_1_needed():
            if not _install_torch():
                return False
            if not problem():
                return True
        if _numpy_1_needed():
            _install_numpy_1()
    except InputError:
        raise
    except Exception as error:
        logging.exception("PyTorch could not be installed")
        raise InputError(
            _("PyTorch could not be installed ({error}): check the network and try again.").format(error=error)
        ) from error
    raise InputError(_("The new packages are installed, but not in use yet: restart Slicer, then press Inpaint again."))


def _numpy_1_needed() -> bool:
    """Whether numpy has to change: on macOS with Intel, also under Rosetta, torch 2.2.2 is the last version."""
    return _on_intel_mac() and OLDEST <= _version("torch") < FIRST_FOR_NUMPY_2 and _version("numpy") >= (2,)


def _on_intel_mac() -> bool:
    return sys.platform == "darwin" and platform.machine() == "x86_64"


def _install_torch() -> bool:
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ModuleNotFoundError as error:
        raise InputError(
            _("Install the extension PyTorch in the Extensions Manager and restart Slicer, then try again.")
        ) from error
    for_numpy_2 = _version("numpy") >= (2,) and not _on_intel_mac()
    requirement = ">=" + ".".join(map(str, FIRST_FOR_NUMPY_2 if for_numpy_2 else OLDEST))
    return PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=requirement) is not None


def _install_numpy_1() -> None:
    question = _(
        "On this computer PyTorch {torch} is the last version, and it cannot work with numpy {numpy}. "
        "Install numpy 1 in its place? Slicer has to be restarted afterwards."
    ).format(torch=version("torch"), numpy=version("numpy"))
    if not slicer.util.confirmOkCancelDisplay(question):
        raise InputError(problem())
    slicer.util.pip_install("numpy<2")


def _version(package: str) -> tuple[int, ...]:
    """The first two numbers of an installed package's version; empty if it is not installed."""
    try:
        return tuple(map(int, re.findall(r"\d+", version(package))[:2]))
    except PackageNotFoundError:
        return ()
