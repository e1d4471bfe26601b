"""No file runs data as code, uses a shell or opens a connection, and a refusal does not name the patient."""

import ast
from pathlib import Path

import MedInpaintLib
import pytest
from MedInpaintLib.command.main import main

PACKAGE = Path(MedInpaintLib.__file__).parent
FILES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("*.py")])
UNSAFE_MODULES = {
    "pickle", "marshal", "shelve", "dill", "joblib",
    "socket", "ssl", "http", "urllib", "requests", "ftplib", "smtplib", "telnetlib", "xmlrpc", "asyncio",
}  # fmt: skip
UNSAFE_CALLS = {"eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
ARGUMENT_AS_A_LIST = {"start", "startDetached", "execute"}  # of a QProcess, given a program and its arguments
NAME = "DOE^JANE"


def unsafe(tree):
    """The parts of a syntax tree that could run data as code, use a shell, or open a connection."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name.split(".")[0] in UNSAFE_MODULES)
            case ast.ImportFrom(module="urllib.parse", level=0):
                pass  # it opens nothing
            case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] in UNSAFE_MODULES:
                yield module
            case ast.Call(func=function, args=arguments, keywords=keywords):
                named, options = ast.unparse(function), {each.arg: ast.unparse(each.value) for each in keywords}
                method = named.rsplit(".", 1)[-1]
                if (
                    named in UNSAFE_CALLS
                    or options.get("shell", "False") != "False"
                    or method == "startCommand"
                    or ("process" in named.lower() and method in ARGUMENT_AS_A_LIST and len(arguments) < 2)
                    or (named == "torch.load" and options.get("weights_only") != "True")  # not torch 2.2's default
                    or (named == "np.load" and (options.get("allow_pickle", "False") != "False" or len(arguments) > 2))
                ):
                    yield ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_file_runs_data_uses_a_shell_or_connects(path):
    assert not list(unsafe(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import urllib.request",
        "from socket import create_connection",
        "subprocess.run(line, shell=True)",
        "subprocess.run(line, shell=asked)",
        "os.system(line)",
        "eval(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, None, True)",
        "np.load(path, allow_pickle=True)",
        "process.start(line)",
        "self._process.startCommand(line)",
    ],
)
def test_unsafe_code_would_be_found(code):
    assert list(unsafe(ast.parse(code)))


@pytest.mark.parametrize("name", ["scan.nii", "mask.nii"])
def test_a_refusal_names_the_file_and_not_its_folder(small, tmp_path, capfd, name):
    archive = tmp_path / NAME
    archive.mkdir()
    (archive / name).write_text(NAME)
    inputs = {"scan.nii": small / "scan.nii.gz", "mask.nii": small / "mask.nii.gz", name: archive / name}
    assert main(["run", *map(str, inputs.values()), str(tmp_path / "filled.mha")]) == 2
    out, error = capfd.readouterr()
    assert name in error
    assert NAME not in out + error
