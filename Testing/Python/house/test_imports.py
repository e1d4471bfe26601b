"""Who may import what, and what the package's public face costs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import MedInpaintLib
import pytest

PACKAGE = Path(MedInpaintLib.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted([*PACKAGE.rglob("*.py"), *ROOT.glob("*.py")])
AT_LOAD = {  # library: the files that may import it when they are loaded
    "torch": {
        "adam.py",
        "conditioning.py",
        "latent.py",
        "deformation.py",
        "networks.py",
        "augment.py",
        "fitting.py",
        "shape.py",
        "trainer.py",
        "vae.py",
        "gan.py",
        "samples.py",
        "reference.py",
    },
    "matplotlib": set(),
    "skimage": set(),
    "cv2": set(),
    "inpainting": set(),
    "tqdm": {"trainer.py"},
    "slicer": {"mrml.py", "nodes.py", "views.py", "MedInpaint.py"},
    "vtk": {"mrml.py", "nodes.py", "MedInpaint.py"},
    "qt": {"process.py", "MedInpaint.py"},
    "ctk": {"MedInpaint.py"},
}
IN_FUNCTIONS = {
    **{library: AT_LOAD[library] for library in ("slicer", "vtk", "qt", "ctk")},
    "torch": AT_LOAD["torch"] | {"models.py", "memory.py", "brats.py", "benchmark.py"},
}


def imported(nodes):
    """The libraries that import statements among these nodes name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def run_on_load(node):
    """The nodes that run when a module is loaded: no function's body, and nothing for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from run_on_load(child)


def run_ever(node):
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from run_ever(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_files_that_are_meant_to_import_torch_slicer_vtk_and_qt(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for nodes, allowed in ((run_on_load(tree), AT_LOAD), (run_ever(tree), IN_FUNCTIONS)):
        wrong = {library for library in imported(nodes) if path.name not in allowed.get(library, {path.name})}
        assert not wrong


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import MedInpaintLib", {"torch", "SimpleITK", "scipy", "numpy", "matplotlib"}),
        ("from MedInpaintLib import inpaint, Settings, Result, InputError, Cancelled", {"torch", "matplotlib"}),
        ("from MedInpaintLib.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
         {"torch", "SimpleITK", "scipy", "numpy", "matplotlib"}),
    ],
    ids=["the package", "its public names", "medinpaint --help"],
)  # fmt: skip
def test_what_is_imported_needs_no_heavy_libraries(code, unwanted):
    code += "\nimport sys\nprint('loaded:', *sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not unwanted & set(output.split("loaded:")[1].split())


def test_every_public_name_is_there_and_no_other():
    for name in MedInpaintLib.__all__:
        assert getattr(MedInpaintLib, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lesion'"):
        MedInpaintLib.lesion  # noqa: B018


def test_the_version_is_that_of_the_project_file():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+)"$', text, re.MULTILINE).group(1) == MedInpaintLib.__version__
