"""What Slicer's build, its Extensions Manager and the extensions catalog read: CMake files, icons, catalog entry."""

import ast
import json
import re
import struct
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "MedInpaint"
ICONS = MODULE / "Resources" / "Icons"
NOT_SHIPPED = {"CMakeLists.txt", "pyproject.toml"}
METADATA = ["HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"]
CATALOG_FIELDS = {  # the schema's fields that an entry of this extension may have
    "$schema", "build_dependencies", "build_subdirectory", "category", "scm_revision", "scm_type", "scm_url", "tier",
}  # fmt: skip


def cmake(folder):
    """The text of a folder's CMake file, without comments."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def listed(variable):
    """The files of a list in the module's CMake file, with the module's name filled in."""
    text = cmake(MODULE)
    name = re.search(r"set\(MODULE_NAME (\w+)\)", text).group(1)
    files = re.search(rf"set\({variable}\s([^)]*)\)", text).group(1)
    return files.replace("${MODULE_NAME}", name).split()


def shipped():
    """The files of the module's folder that Slicer has to install, as CMake would name them."""
    for path in sorted(MODULE.rglob("*")):
        parts = path.relative_to(MODULE).parts
        left_out = any(part.startswith(".") or part == "__pycache__" or part.endswith(".egg-info") for part in parts)
        if path.is_file() and not left_out and parts[0] not in {"build", "dist", *NOT_SHIPPED}:
            yield "/".join(parts)


def metadata(name):
    """The value of one of the extension's variables."""
    return re.search(rf'^set\(EXTENSION_{name} "([^"]*)"\)$', cmake(ROOT), re.MULTILINE).group(1)


def in_tree(url):
    """The file of this repository that a raw URL of its main branch shows."""
    start = metadata("HOMEPAGE").replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    assert url.startswith(start)
    return ROOT / url[len(start) :]


def png_size(path):
    """Width and height, from the header."""
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:24])


def catalog_entry():
    """The entry for the extensions catalog that the documents show."""
    document = ROOT / "Resources" / "Documentation" / "developers.md"
    blocks = re.findall(r"```json\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    entries = [json.loads(block) for block in blocks if "scm_url" in block]
    assert len(entries) == 1
    return entries[0]


def test_every_python_file_of_the_module_is_listed_as_a_script_and_every_listed_script_exists():
    assert set(listed("MODULE_PYTHON_SCRIPTS")) == {name for name in shipped() if name.endswith(".py")}


def test_every_other_file_of_the_module_is_listed_as_a_resource_and_every_listed_resource_exists():
    assert set(listed("MODULE_PYTHON_RESOURCES")) == {name for name in shipped() if not name.endswith(".py")}


def test_no_file_is_listed_twice():
    counts = Counter(listed("MODULE_PYTHON_SCRIPTS") + listed("MODULE_PYTHON_RESOURCES"))
    assert not [name for name, count in counts.items() if count > 1]


def test_both_lists_are_given_to_the_macro_that_builds_the_module():
    call = re.search(r"slicerMacroBuildScriptedModule\(([^)]*)\)", cmake(MODULE)).group(1).split()
    assert call[call.index("SCRIPTS") + 1] == "${MODULE_PYTHON_SCRIPTS}"
    assert call[call.index("RESOURCES") + 1] == "${MODULE_PYTHON_RESOURCES}"
    assert "WITH_GENERIC_TESTS" in call


def test_project_folder_module_and_its_file_have_one_name():
    project = re.search(r"^project\((\w+)\)$", cmake(ROOT), re.MULTILINE).group(1)
    assert re.search(r"set\(MODULE_NAME (\w+)\)", cmake(MODULE)).group(1) == project == MODULE.name
    assert (MODULE / f"{project}.py").is_file()
    assert not project.lower().startswith("slicer")  # the catalog wants that of the repository alone


def test_the_module_is_the_only_python_file_beside_itself_as_slicer_would_load_others_as_modules():
    assert [path.name for path in MODULE.glob("*.py")] == ["MedInpaint.py"]


def test_a_wheel_carries_every_package_and_the_resources():
    packages = re.search(r"^packages = \[(.*?)\]", (MODULE / "pyproject.toml").read_text(encoding="utf-8"), re.S | re.M)
    folders = (path.parent.relative_to(MODULE) for path in (MODULE / "MedInpaintLib").rglob("__init__.py"))
    expected = {".".join(folder.parts) for folder in folders} | {"MedInpaintLib.Resources"}
    assert set(re.findall(r'"([\w.]+)"', packages.group(1))) == expected


def test_every_folder_that_is_built_has_a_cmake_file():
    folders = re.findall(r"add_subdirectory\((\w+)\)", cmake(ROOT))
    assert folders == ["MedInpaint", "Testing"]
    assert all((ROOT / folder / "CMakeLists.txt").is_file() for folder in folders)


@pytest.mark.parametrize("name", METADATA)
def test_each_piece_of_metadata_is_one_line_with_one_quoted_value(name):
    lines = [line for line in cmake(ROOT).splitlines() if f"EXTENSION_{name}" in line]
    assert len(lines) == 1
    assert re.fullmatch(rf'set\(EXTENSION_{name} "[^";]+"\)', lines[0])  # at a semicolon CMake would cut the value


def test_the_metadata_comes_after_the_project_and_before_slicer_reads_it():
    text = cmake(ROOT)
    places = [text.index(f"set(EXTENSION_{name} ") for name in METADATA]
    assert text.index("project(") < min(places) < max(places) < text.index("include(${Slicer_USE_FILE})")


def test_the_descriptions_name_the_steps_of_the_method_and_no_others():
    project = re.search(
        r'^description = "(.+)"$', (MODULE / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    for description in (metadata("DESCRIPTION"), project.group(1)):
        assert "kriging of the residual" in description
        assert "Poisson" not in description  # only one of the blendings that can be chosen


def test_the_repository_has_the_name_that_the_catalog_wants():
    assert metadata("HOMEPAGE").rsplit("/", 1)[1] == "SlicerMedInpaint"


def test_the_icon_of_the_catalog_is_in_the_tree_and_square():
    assert png_size(in_tree(metadata("ICONURL"))) == (256, 256)


def test_the_screenshots_of_the_catalog_are_in_the_tree():
    urls = metadata("SCREENSHOTURLS").split()
    assert urls
    for url in urls:
        assert min(png_size(in_tree(url))) >= 256


def test_the_icon_of_the_module_is_where_slicer_looks_for_it():
    assert png_size(ICONS / "MedInpaint.png") == (128, 128)


@pytest.mark.parametrize("path", [ROOT / "Resources" / "MedInpaint.png", ICONS / "MedInpaint.png"], ids=["256", "128"])
def test_the_icons_show_the_drawing(path):
    np = pytest.importorskip("numpy")
    try:
        from PySide6.QtCore import QRectF
        from PySide6.QtGui import QImage, QPainter
        from PySide6.QtSvg import QSvgRenderer
    except ImportError as error:
        pytest.skip(f"Qt cannot be loaded: {error}")

    def pixels(image):
        image = image.convertToFormat(QImage.Format.Format_RGBA8888)
        return np.array(image.constBits(), float).reshape(image.height(), image.width(), 4)

    icon = QImage(str(path))
    drawn = QImage(icon.size(), QImage.Format.Format_ARGB32)
    drawn.fill(0)
    painter = QPainter(drawn)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    QSvgRenderer(str(ROOT / "Resources" / "MedInpaint.svg")).render(painter, QRectF(drawn.rect()))
    painter.end()
    assert pixels(icon)[..., 3].max() == 255
    assert np.abs(pixels(icon) - pixels(drawn)).mean() < 1  # of 255


def test_every_sample_has_a_small_thumbnail_of_the_right_shape():
    samples = [path.name.removesuffix("_T1.nii.gz") for path in (MODULE / "Resources/SampleData").glob("*_T1.nii.gz")]
    assert len(samples) == 2
    for sample in samples:
        assert png_size(ICONS / f"{sample}.png") == (260, 280)
        assert (ICONS / f"{sample}.png").stat().st_size < 60_000


def test_ctest_finds_the_test_class_in_the_modules_file():
    scripts = re.findall(r"slicer_add_python_unittest\(SCRIPT (\S+)\)", cmake(ROOT / "Testing"))
    assert len(scripts) == 1
    script = Path(scripts[0].replace("${MedInpaint_SOURCE_DIR}", str(ROOT)))
    assert script == MODULE / "MedInpaint.py"
    name = f"{script.stem}Test"
    imports = [node for node in ast.parse(script.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    (home,) = (node.module for node in imports if name in [alias.name for alias in node.names])
    source = (MODULE / home.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    (tests,) = (node for node in ast.parse(source).body if getattr(node, "name", "") == name)
    assert [base.id for base in tests.bases] == ["ScriptedLoadableModuleTest"]
    assert [node for node in tests.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_the_extension_depends_on_pytorch_alone():
    assert metadata("DEPENDS").split() == ["PyTorch"]


def test_the_documented_catalog_entry_has_the_fields_that_the_catalog_wants():
    entry = catalog_entry()
    assert {"$schema", "category", "scm_url"} <= set(entry) <= CATALOG_FIELDS
    assert re.fullmatch(r"https://.+/slicer-extension-catalog-entry-schema-v\d+\.\d+\.\d+\.json#", entry["$schema"])
    assert entry["scm_revision"] == "main"  # the branch that the icon's and the screenshots' URLs name
    assert entry["tier"] in range(1, 6)


def test_the_documented_catalog_entry_says_what_the_cmake_file_says():
    entry = catalog_entry()
    assert entry["category"] == metadata("CATEGORY")
    assert entry["build_dependencies"] == metadata("DEPENDS").split()
    assert entry["scm_url"].removesuffix(".git") == metadata("HOMEPAGE")
