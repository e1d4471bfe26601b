"""Which file may import which, how large files and folders are, and what importing the package loads."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import MedInpaintLib
import pytest

PACKAGE = Path(MedInpaintLib.__file__).parent
ROOT = PACKAGE.parent
PACKAGE_FILES = sorted(PACKAGE.rglob("*.py"))
FILES = [ROOT / "MedInpaint.py", *PACKAGE_FILES]
FOLDERS = sorted({path.parent for path in FILES})
LONGEST = 300  # lines of a file
MOST = 8  # files beside each other in a folder
ORDER = {  # folder: what is in it, from top to bottom; an entry imports entries of lower lines only
    "": """
        __main__
        slicer
        command
        cohort
        evaluation
        training
        pipeline
        prediction
        report
        blending
        kept
        search
        models
        space
        volumes
        resources settings errors __init__
        """,
    "cohort": """
        run
        workers
        fill
        report
        find derivatives resume
        scans
        """,
    "evaluation": """
        compare experiment benchmark downstream downstream_report
        figures
        tables
        measures
        fills
        holes
        """,
    "training": """
        vae gan linear
        trainer
        export
        samples validation
        slices
        """,
    "slicer": """
        MedInpaintEffect
        selftest
        panel
        logic
        parameters samples torch_setup effect
        child scene
        """,
}
SLICER_ALONE = {"slicer", "MedInpaint.py"}
AT_LOAD = {  # library: the rooms and files that may import it when they are loaded
    "torch": {
        "search",
        "training",
        "blending/residual.py",
        *(f"models/{name}.py" for name in ("gan", "generator", "latent_model", "linear", "vae")),
    },
    "matplotlib": set(),
    "skimage": set(),
    "cv2": set(),
    "inpainting": set(),
    "tqdm": set(),
    "pydicom": set(),
    "nibabel": set(),
    **{library: set() for library in ("ancpbids", "dask", "dask_jobqueue", "distributed", "filelock", "jinja2")},
    "slicer": SLICER_ALONE,
    "vtk": SLICER_ALONE,
    "qt": SLICER_ALONE,
    "ctk": SLICER_ALONE,
}
IN_FUNCTIONS = {
    **{library: SLICER_ALONE for library in ("slicer", "vtk", "qt", "ctk")},
    "pydicom": {"volumes/dicom"},
    "nibabel": set(),
    "torch": AT_LOAD["torch"]
    | {"models/folder.py", "cohort/workers/cluster.py", "evaluation/benchmark.py", "evaluation/measures"},
}


def place(path):
    """The path of a file inside the package, or the name of the module's file."""
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()


def may(path, library, allowed):
    """Whether a file may import a library."""
    here = place(path)
    return library not in allowed or any(here == room or here.startswith(f"{room}/") for room in allowed[library])


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


@pytest.mark.parametrize("path", FILES, ids=place)
def test_only_the_files_that_are_meant_to_import_torch_slicer_vtk_and_qt(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for nodes, allowed in ((run_on_load(tree), AT_LOAD), (run_ever(tree), IN_FUNCTIONS)):
        assert {library for library in imported(nodes) if not may(path, library, allowed)} == set()


def imports_of(path, nodes):
    """The files of the package that import statements among these nodes name, as paths without .py."""
    here = path.relative_to(PACKAGE).parts
    for node in nodes:
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = [*here[: len(here) - node.level], *(node.module.split(".") if node.module else [])]
        for alias in node.names:
            target = PACKAGE.joinpath(*base, alias.name)
            if not target.is_dir() and not target.with_suffix(".py").is_file():  # no file, but a name in one
                target = PACKAGE.joinpath(*base)
            yield (target / "__init__" if target.is_dir() else target).relative_to(PACKAGE).parts


def rank(folder, entry):
    """The line of ORDER on which a folder's entry stands; None if the folder has no order."""
    lines = [line.split() for line in ORDER.get("/".join(folder), "").split("\n")]
    return next((n for n, line in enumerate(lines) if entry in line), None)


@pytest.mark.parametrize("path", [p for p in PACKAGE_FILES if p.name != "__init__.py"], ids=place)
def test_imports_point_downwards(path):
    here = path.relative_to(PACKAGE).with_suffix("").parts
    for there in imports_of(path, ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        shared = next(n for n, (a, b) in enumerate(zip(here, there, strict=False)) if a != b)
        folder, mine, other = here[:shared], here[shared], there[shared]
        same_line = rank(folder, mine) == rank(folder, other)
        assert same_line or rank(folder, mine) < rank(folder, other), f"{'/'.join(here)} imports {'/'.join(there)}"
        if same_line and folder == ():
            assert mine == other or rank(folder, mine) == rank(folder, "errors")


def test_every_room_has_its_place_in_the_order():
    for folder, lines in ORDER.items():
        there = {path.stem for path in (PACKAGE / folder).iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
        assert there - {"__init__"} <= set(lines.split())
        assert set(lines.split()) <= there


def test_no_imports_go_in_a_circle():
    graph = {
        path.relative_to(PACKAGE).with_suffix("").parts: set(
            imports_of(path, run_ever(ast.parse(path.read_text(encoding="utf-8"))))
        )
        for path in PACKAGE_FILES
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError and names the files


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_no_folder_has_too_many_files_beside_each_other(folder):
    assert len(list(folder.glob("*.py"))) <= MOST


@pytest.mark.parametrize("path", FILES, ids=place)
def test_no_file_is_too_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder not in (ROOT, PACKAGE)], ids=place)
def test_every_room_says_in_one_line_which_step_it_is(folder):
    text = (folder / "__init__.py").read_text(encoding="utf-8")
    assert re.fullmatch(r'"""[A-Z].{20,}\."""\n', text)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import MedInpaintLib", {"torch", "SimpleITK", "scipy", "numpy", "matplotlib"}),
        ("from MedInpaintLib import inpaint, Settings, Result, InputError, Cancelled", {"torch", "matplotlib"}),
        ("from MedInpaintLib.command.main import main\ntry: main(['--help'])\nexcept SystemExit: pass",
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


def test_files_of_tests_have_different_names():
    """Pytest imports each by its name alone, and refuses the second one of a name."""
    names = [path.name for path in (Path(__file__).parents[1]).rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
