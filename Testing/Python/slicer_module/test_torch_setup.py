"""PyTorch in Slicer: what is installed when, what is asked, and what is said if it cannot be used."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import desktop
import pytest
import slicer
from desktop import click
from MedInpaintLib import InputError
from MedInpaintLib.slicer import torch_setup
from MedInpaintLib.slicer.logic import MedInpaintLogic
from qt_stand_in import application


@pytest.fixture
def packages(monkeypatch):
    """The versions that seem to be installed, by package."""
    versions = {"numpy": "2.4.6"}

    def version(package):
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(torch_setup, "version", version)
    return versions


@pytest.fixture
def intel_mac(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.fixture
def extension(monkeypatch):
    """Slicer's PyTorch extension; `install` is what its installation does."""
    holder = desktop.module_named("holder", asked=[], install=lambda requirement: object())

    def install(requirement):
        holder.asked.append(requirement)
        return holder.install(requirement)

    utils = desktop.module_named("PyTorchUtils", PyTorchUtilsLogic=lambda: desktop.PyTorchUtilsLogic(install))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", utils)
    return holder


@pytest.mark.parametrize(
    ("torch", "numpy", "words"),
    [
        ("2.13.0+cpu", "2.4.6", ""),
        ("2.3.0", "2.0.2", ""),
        ("2.2.2", "1.26.4", ""),
        (None, "2.4.6", "PyTorch is not installed"),
        ("1.13.1", "2.4.6", "PyTorch 1.13.1 is too old"),
        ("2.2.2", "2.0.2", "PyTorch 2.2.2 was built for numpy 1 and cannot work with numpy 2.0.2"),
    ],
)
def test_what_is_wrong_with_pytorch_is_found_without_importing_it(packages, torch, numpy, words):
    packages.update({"numpy": numpy} | ({"torch": torch} if torch else {}))
    assert torch_setup.problem().startswith(words)
    assert bool(torch_setup.problem()) == bool(words)
    assert torch_setup.installed() == bool(torch)


def test_what_works_is_left_alone(packages, extension):
    packages["torch"] = "2.6.0"
    assert torch_setup.prepare()
    assert extension.asked == []


@pytest.mark.parametrize("before", [None, "1.13.1", "2.2.2"])
def test_a_pytorch_that_fits_numpy_2_is_installed(packages, extension, before):
    packages.update({"torch": before} if before else {})
    extension.install = lambda requirement: packages.update(torch="2.13.0") or object()
    assert torch_setup.prepare()
    assert extension.asked == [">=2.3"]


def test_on_a_mac_with_intel_numpy_1_is_offered_as_pytorch_2_2_is_the_last(
    module, packages, intel_mac, extension, monkeypatch
):
    installed = []
    monkeypatch.setattr(slicer.util, "pip_install", installed.append)
    extension.install = lambda requirement: packages.update(torch="2.2.2") or object()
    with pytest.raises(InputError, match=r"restart Slicer, then press Inpaint again\.$"):
        torch_setup.prepare()
    assert (extension.asked, installed) == ([">=2.2"], ["numpy<2"])
    assert "Install numpy 1 in its place? Slicer has to be restarted afterwards." in module.errors[0]


def test_a_user_who_keeps_numpy_2_is_told_why_nothing_runs(module, packages, intel_mac, extension, monkeypatch):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: False)
    packages["torch"] = "2.2.2"
    with pytest.raises(InputError, match="cannot work with numpy 2"):
        torch_setup.prepare()
    assert extension.asked == []


def test_an_installation_that_fails_is_told(packages, extension):
    def fail(requirement):
        raise subprocess.CalledProcessError(1, ["pip"])

    extension.install = fail
    with pytest.raises(InputError, match=r"^PyTorch could not be installed \(.*\): check the network and try again\.$"):
        torch_setup.prepare()


def test_without_the_extension_the_panel_says_what_to_install_and_that_slicer_has_to_restart(
    panel, packages, module, monkeypatch
):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    click(panel.ui.inpaintButton)
    assert module.errors == [
        "Install the extension PyTorch in the Extensions Manager and restart Slicer, then try again."
    ]


def test_the_panel_says_that_it_offers_to_install_pytorch_and_takes_no_for_an_answer(
    panel, packages, module, extension
):
    panel.enter()
    assert panel.ui.statusLabel.text.startswith("PyTorch is not installed: press Inpaint")
    assert panel.ui.inpaintButton.enabled
    extension.install = lambda requirement: None
    click(panel.ui.inpaintButton)
    assert extension.asked == [">=2.3"]
    assert not panel.logic.running
    assert module.errors == []
    assert panel.ui.inpaintButton.enabled


def test_while_pytorch_is_installed_the_panel_says_so_and_a_click_starts_nothing(panel, packages, extension):
    heard = []

    def install(requirement):  # Slicer runs the event loop meanwhile
        heard.append((panel.ui.inpaintButton.enabled, panel.ui.inpaintButton.toolTip, panel.ui.statusLabel.text))
        click(panel.ui.inpaintButton)
        panel.onInpaintButton()
        application().processEvents()

    extension.install = install
    click(panel.ui.inpaintButton)
    busy = "Installing PyTorch: this takes some minutes."
    assert heard == [(False, busy, busy)]
    assert panel.ui.inpaintButton.enabled


def test_the_console_says_what_is_wrong_with_pytorch(case, packages):
    with pytest.raises(InputError, match=r"^PyTorch is not installed"):
        MedInpaintLogic().inpaint(case.volume, case.labels)


def test_a_run_starts_only_if_pytorch_works(panel, packages, intel_mac, module, monkeypatch):
    packages["torch"] = "2.2.2"
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: False)
    click(panel.ui.inpaintButton)
    assert not panel.logic.running
    assert "cannot work with numpy 2" in module.errors[0]
