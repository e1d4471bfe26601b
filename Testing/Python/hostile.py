"""Hostile scans and masks for `medinpaint run`, and the check of what the command does with them.

With any input the command must end in time: with a correct result, or with one sentence, exit code 2 and no file.
"""

import contextlib
import gzip
import io
import os
import signal
import struct
import tempfile
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from hypothesis import strategies as st
from MedInpaintLib.command.main import main
from MedInpaintLib.volumes.mask import hole_on_grid
from MedInpaintLib.volumes.read import IMAGE_SUFFIXES, read_image
from scipy import ndimage
from synthetic import SCALAR_TYPES, bits, rotation

SECONDS = 60  # limit for one case; an ordinary case takes 2 to 9
FILLED = "filled"

NUMBERS = (0.0, 1e-300, 1e-30, 1e-6, 1e-3, 0.1, 10.0, 1e3, 1e6, 1e30, 1e300)
DIRECTIONS = {
    "as it is": None,
    "left-handed": np.diag([-1.0, 1, 1]),
    "permuted": np.eye(3)[[2, 0, 1]],
    "oblique": rotation(25),
    "sheared": np.array([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]]),
    "singular": np.diag([1.0, 1, 0]),
    "nearly singular": np.diag([1.0, 1, 1e-14]),
    "all zero": np.zeros((3, 3)),
    "not a number": np.full((3, 3), np.nan),
}
VALUES = {
    "as they are": lambda scan, hole: scan,
    "constant": lambda scan, hole: np.full_like(scan, 7),
    "all zero": lambda scan, hole: np.zeros_like(scan),
    "one bright voxel": lambda scan, hole: np.where(np.arange(scan.size).reshape(scan.shape) == scan.size // 2, 9.0, 0),
    "constant outside the hole": lambda scan, hole: np.where(hole, scan, 7),
    "two values": lambda scan, hole: np.where(scan > 0, 100.0, 0),
    "NaN in the hole": lambda scan, hole: np.where(hole, np.nan, scan),
    "NaN in the background": lambda scan, hole: np.where(scan == 0, np.nan, scan),
    "NaN in the brain": lambda scan, hole: np.where(scan == np.median(scan[scan > 0]), np.nan, scan),
    "NaN everywhere": lambda scan, hole: np.full_like(scan, np.nan),
    "infinite in the hole": lambda scan, hole: np.where(hole, -np.inf, scan),
    "one infinite voxel": lambda scan, hole: np.where(scan == scan.max(), np.inf, scan),
    "negative": lambda scan, hole: -scan,
    "shifted below 0": lambda scan, hole: scan - 3000,
    "inverted": lambda scan, hole: scan.max() - scan,
    "huge": lambda scan, hole: scan * 1e34,
    "beyond float32": lambda scan, hole: scan * 1e200,
    "tiny": lambda scan, hole: scan * 1e-42,
    "smallest": lambda scan, hole: scan * 1e-310,
    "one huge voxel": lambda scan, hole: np.where(scan == scan.max(), 3e38, scan),
    "huge in the hole": lambda scan, hole: np.where(hole, 3e38, scan),
    "noise": lambda scan, hole: np.random.default_rng(0).normal(0, 100, scan.shape),
}
MASKS = {
    "lesion": lambda scan, hole: hole,
    "empty": lambda scan, hole: hole & False,
    "one voxel": lambda scan, hole: _only(hole, np.argwhere(hole)[len(np.argwhere(hole)) // 2]),
    "one voxel at a corner": lambda scan, hole: _only(hole, (0, 0, 0)),
    "one voxel in the background": lambda scan, hole: _only(hole, np.argwhere(scan == 0)[0]),
    "a face of the scan": lambda scan, hole: _faces(hole)[0],
    "all faces of the scan": lambda scan, hole: np.any(_faces(hole), axis=0),
    "the background": lambda scan, hole: scan == 0,
    "the brain": lambda scan, hole: scan > 0,
    "the whole scan": lambda scan, hole: hole | True,
    "all but one voxel": lambda scan, hole: ~_only(hole, np.array(hole.shape) // 2),
    "all but the lesion": lambda scan, hole: ~hole,
    "a third of the brain": lambda scan, hole: (scan > 0) & (np.arange(len(scan)) < len(scan) // 3)[:, None, None],
    "scattered voxels": lambda scan, hole: (np.random.default_rng(0).random(scan.shape) < 1e-3) & (scan > 0),
    "a checkerboard": lambda scan, hole: (np.indices(scan.shape).sum(axis=0) % 2 == 0) & (scan > 0),
    "wide": lambda scan, hole: ndimage.binary_dilation(hole, iterations=6),
}
SHAPES = {
    "as it is": (),
    "single slice": ((0, 50, 51),),
    "two slices": ((0, 50, 52),),
    "thin": ((0, 48, 56),),
    "one column": ((1, 60, 62), (2, 36, 38)),
    "tiny": ((0, 49, 53), (1, 58, 62), (2, 34, 38)),
    "eight voxels": ((0, 50, 52), (1, 60, 62), (2, 36, 38)),
    "half": ((0, 30, 91),),
    "600 slices": "long",
    "padded": "padded",
}
MASK_TYPES = ["uint8", "int16", "float32", "float64", "int64"]
FOLDERS = ("plain", "Läsion 脳 мозг", "a b'c\"d", "-o", "f" * 200, "new\nline", "\udcff\udcfe")
OUTPUTS = (
    *(f"result{suffix}" for suffix in IMAGE_SUFFIXES),
    "RESULT.NII.GZ", ".nii", ".nii.gz", "résultat 脳.nii", "a.b.c.d.nii", "result.txt", "result", "r.gz", "r.hdr",
    "r.dcm", "none/result.nii", "../scan.nii", ".", "r" * 250 + ".nii", "r" * 300 + ".nii", f"r.{'v' * 225}.nii",
    "r\0.nii",
)  # fmt: skip
NIFTI_FIELDS = {  # of the header: offset and format
    "sizeof_hdr": (0, "i"), "dim 0": (40, "h"), "dim 1": (42, "h"), "dim 3": (46, "h"), "dim 4": (48, "h"),
    "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim 0": (76, "f"), "pixdim 1": (80, "f"), "pixdim 3": (88, "f"),
    "vox_offset": (108, "f"), "scl_slope": (112, "f"), "scl_inter": (116, "f"), "xyzt_units": (123, "b"),
    "qform_code": (252, "h"), "sform_code": (254, "h"), "quatern_b": (256, "f"), "qoffset_x": (268, "f"),
    "srow_x": (280, "f"), "srow_z": (320, "f"), "magic": (344, "i"),
}  # fmt: skip
FIELD_VALUES = (-1, 0, 1, 2, 4, 8, 16, 64, 127, 1e-30, 1e30, float("nan"), float("inf"), -1e30, 32767, 352.5)


@dataclass(frozen=True)
class Damage:
    """Damage to a file after it is written.

    Attributes:
        kind: "none", "truncated", "flipped", "header", "appended", "renamed", "empty", "bomb" or "announced".
        where: share of the file, 0 to 1: the part that is kept, or the place of the flipped bit.
        name: the field of the NIfTI header, for "header"; the new extension, for "renamed".
        value: the new value of the field.
    """

    kind: str = "none"
    where: float = 0.5
    name: str = ""
    value: float = 0.0


@dataclass(frozen=True)
class Hostile:
    """One case, described by its differences from a run that succeeds."""

    dtype: str = "int16"
    suffix: str = ".nii.gz"
    values: str = "as they are"
    shape: str = "as it is"
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)  # factors of the scan's spacing
    origin: float = 0.0
    direction: str = "as it is"
    mask: str = "lesion"
    mask_dtype: str = "uint8"
    mask_moved: float = 0.0
    damaged: str = "scan.x"
    damage: Damage = field(default_factory=Damage)
    folder: str = "plain"
    output: str = "result.nii.gz"
    options: tuple[str, ...] = ()


def _only(hole, index):
    chosen = np.zeros_like(hole)
    chosen[tuple(index)] = True
    return chosen


def _faces(hole):
    faces = []
    for axis in range(3):
        for side in (0, -1):
            face = np.zeros_like(hole)
            np.moveaxis(face, axis, 0)[side] = True
            faces.append(face)
    return faces


# --- the cases

_headers = st.builds(
    Damage, st.just("header"), st.just(0.0), st.sampled_from(list(NIFTI_FIELDS)), st.sampled_from(FIELD_VALUES)
)
_others = st.builds(Damage, st.sampled_from(["truncated", "flipped", "appended", "empty", "bomb", "announced"]),
                    st.one_of(st.floats(0, 0.03), st.floats(0, 1)))  # fmt: skip
_renamed = st.builds(
    Damage, st.just("renamed"), st.just(0.0), st.sampled_from([*IMAGE_SUFFIXES, ".png", ".dcm", ".mhd", ".hdr", ".txt"])
)
_options = [
    ("--grow", "2"), ("--blending", "3d"), ("--blending", "2d"), ("--no-blending",), ("--no-residual",),
    ("--noise",), ("--iterations", "0"), ("--label", "1"), ("--label", "-3"), ("--grow", "10"),
]  # fmt: skip
_ASPECTS = {
    "dtype": st.sampled_from(SCALAR_TYPES),
    "suffix": st.sampled_from(IMAGE_SUFFIXES),
    "values": st.sampled_from(list(VALUES)),
    "shape": st.sampled_from(list(SHAPES)),
    "spacing": st.one_of(
        st.sampled_from(NUMBERS).map(lambda factor: (factor,) * 3),
        st.tuples(*[st.sampled_from((0.0, 1e-30, 0.1, 1.0, 1.0, 3.0, 1e6, 1e30))] * 3),
    ),
    "origin": st.sampled_from([1e3, -1e6, 1e9, 1e30, 1e300, float("nan"), float("inf")]),
    "direction": st.sampled_from(list(DIRECTIONS)),
    "mask": st.sampled_from(list(MASKS)),
    "mask_dtype": st.sampled_from(MASK_TYPES),
    "mask_moved": st.sampled_from([0.004, 1.0, -30.0, 500.0, 1e20, float("nan")]),
    "damage": st.one_of(_headers, _others, _renamed),
    "folder": st.sampled_from(FOLDERS),
    "output": st.sampled_from(OUTPUTS),
    "options": st.sampled_from(_options),
}


@st.composite
def hostile(draw) -> Hostile:
    """A case with one to three unusual or wrong properties; damage is in the scan or in the mask."""
    chosen = draw(st.lists(st.sampled_from(list(_ASPECTS)), min_size=1, max_size=3, unique=True))
    recipe = {name: draw(_ASPECTS[name]) for name in chosen}
    if recipe.get("damage", Damage()).kind in ("header", "bomb", "announced"):
        recipe["suffix"] = draw(st.sampled_from([".nii", ".nii.gz"]))
    if "damage" in recipe:
        recipe["damaged"] = draw(st.sampled_from(["scan.x", "mask.x"]))
    return Hostile(**recipe)


def write(case: Hostile, small: Path, folder: Path) -> tuple[Path, Path]:
    """Write the scan and the mask of a case, made from the small sample, to a folder. Returns their paths.

    A volume that its format cannot store is written as a MetaImage, with a hand-written header if ITK refuses that.
    """
    scan, mask = (sitk.ReadImage(str(small / f"{name}.nii.gz")) for name in ("scan", "mask"))
    values, hole = sitk.GetArrayFromImage(scan).astype(float), sitk.GetArrayFromImage(mask) > 0
    lesion = MASKS[case.mask](values, hole)
    with np.errstate(all="ignore"):
        values = VALUES[case.values](values, hole)
        if np.dtype(case.dtype).kind in "iu":
            limits = np.iinfo(case.dtype)
            values = np.clip(np.nan_to_num(values), float(limits.min), float(limits.max) * (1 - 1e-15))
        values = values.astype(case.dtype)
    values, lesion = (_shaped(array, case.shape) for array in (values, lesion))
    paths = []
    for name, array, moved in (("scan", values, 0.0), ("mask", lesion.astype(case.mask_dtype), case.mask_moved)):
        image = sitk.GetImageFromArray(array)
        path = folder / f"{name}{case.suffix}"
        written = _set_geometry(image, scan, case, moved)
        try:
            sitk.WriteImage(image, str(path), useCompression=True)
        except RuntimeError:
            path = folder / f"{name}.mha"
            sitk.WriteImage(image, str(path), useCompression=True)
        if not written:
            path = _with_raw_geometry(path, image, case, moved)
        if case.damaged.startswith(name):
            path = _damaged(path, case.damage)
        paths.append(path)
    return tuple(paths)


def _shaped(array, shape):
    cuts = SHAPES[shape]
    if cuts == "long":  # many slices
        array = np.repeat(array[40:65, 54:66, 32:44], 24, axis=0)
    elif cuts == "padded":
        array = np.pad(array, ((9, 0), (0, 7), (3, 2)))
    else:
        for axis, start, stop in cuts:
            array = array.take(range(start, stop), axis)
    return np.ascontiguousarray(array)


def _geometry(scan, case, moved):
    spacing = np.array(scan.GetSpacing()) * case.spacing
    origin = np.array(scan.GetOrigin()) + case.origin + moved
    direction = np.reshape(scan.GetDirection(), (3, 3))
    other = DIRECTIONS[case.direction]
    return spacing.tolist(), origin.tolist(), np.ravel(direction if other is None else direction @ other).tolist()


def _set_geometry(image, scan, case, moved) -> bool:
    """Give an image the geometry of the case; False if ITK refuses a part of it."""
    spacing, origin, direction = _geometry(scan, case, moved)
    image.SetOrigin(origin)
    try:
        image.SetSpacing(spacing)
        image.SetDirection(direction)
    except RuntimeError:
        return False
    return True


def _with_raw_geometry(path, image, case, moved):
    """A MetaImage with a header that ITK would not write."""
    spacing, origin, direction = _geometry(image, case, moved)
    if 0 in case.spacing:
        spacing = [s * f for s, f in zip((2.0, 2.0, 2.0), case.spacing, strict=True)]
    path.unlink()
    path = path.with_name(f"{path.name.split('.')[0]}.mha")
    kinds = {"int8": "CHAR", "int16": "SHORT", "int32": "INT", "int64": "LONG_LONG", "float32": "FLOAT"}
    kinds |= {f"u{name}": f"U{kind}" for name, kind in kinds.items()} | {"float64": "DOUBLE"}
    array = sitk.GetArrayFromImage(image)

    def joined(numbers):
        return " ".join(map(str, numbers))

    header = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        f"TransformMatrix = {joined(direction)}\nOffset = {joined(origin)}\nElementSpacing = {joined(spacing)}\n"
        f"DimSize = {joined(image.GetSize())}\nElementType = MET_{kinds[array.dtype.name]}\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(header.encode() + array.tobytes())
    return path


def _damaged(path, damage):
    content = path.read_bytes()
    at = min(int(damage.where * len(content)), len(content) - 1)
    if damage.kind == "truncated":
        path.write_bytes(content[:at])
    elif damage.kind == "flipped":
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
    elif damage.kind == "appended":
        path.write_bytes(content + content[: at + 1])
    elif damage.kind == "empty":
        path.write_bytes(b"")
    elif damage.kind == "renamed":
        return path.rename(path.with_name(path.name.split(".")[0] + damage.name))
    elif damage.kind in ("header", "bomb", "announced") and ".nii" in path.name:
        _damage_nifti(path, damage)
    return path


def _damage_nifti(path, damage):
    packed = path.suffix == ".gz"
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    if damage.kind == "header":
        offset, form = NIFTI_FIELDS[damage.name]
        with contextlib.suppress(struct.error, ValueError, OverflowError):  # a value that the field cannot hold
            struct.pack_into(f"<{form}", content, offset, damage.value if form == "f" else int(damage.value))
    elif damage.kind == "announced":  # more voxels than fit into any memory
        struct.pack_into("<4h", content, 40, 3, 32000, 32000, 32000 if damage.where > 0.5 else 3)
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    if damage.kind == "bomb" and packed:  # 2 GB of zeros after the voxels
        with path.open("ab") as file:
            zeros = gzip.compress(bytes(64 << 20), 9)
            for _ in range(32):
                file.write(zeros)


# --- the check


class Failure(AssertionError):
    """The command did something that it must not do."""


@dataclass(frozen=True)
class Answer:
    """The exit code of the command and its output on stderr."""

    code: int
    error: str


def check_case(case: Hostile, small: Path) -> str:
    """Run the command on a case. Returns "filled" or the sentence; raises Failure if the command behaved wrongly."""
    with tempfile.TemporaryDirectory() as top:
        plain, folder = Path(top) / "plain", Path(top) / case.folder
        plain.mkdir()
        with _captured_stderr():
            written = write(case, small, plain)  # ITK cannot write to folders with some of the names
        plain.rename(folder)
        scan, mask = (folder / path.name for path in written)
        output = Path(os.path.join(folder, "out", case.output))
        (folder / "out").mkdir()
        before = _contents(folder)
        answer = run_command([str(scan), str(mask), str(output), *case.options])
        return check_answer(answer, scan, mask, output, before, folder, case.options)


def _contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def check_answer(answer: Answer, scan: Path, mask: Path, output: Path, before: dict, folder: Path, options=()) -> str:
    """Returns "filled" or the sentence; raises Failure if the answer or the files in the folder are wrong."""
    now = _contents(folder)
    lines = answer.error.splitlines()
    if answer.code == 2:
        # A line break of the path itself is allowed.
        sentence = len(answer.error.replace("new\nline", "").splitlines()) == 1
        if not (sentence and answer.error.startswith("medinpaint: ") and answer.error.rstrip().endswith(".")):
            raise Failure(f"wrote no sentence: {answer.error!r}")
        if now != before:
            raise Failure(f"wrote files: {sorted(set(now) ^ set(before))}")
        return answer.error.removeprefix("medinpaint: ").strip()
    if answer.code != 0:
        raise Failure(f"ended with {answer.code}: {answer.error}")
    if not all(line.startswith("medinpaint: warning: ") and line.endswith(".") for line in lines):
        raise Failure(f"wrote more than warnings: {answer.error!r}")
    written = {path.resolve() for path in set(now) - set(before)}
    if written != {output.resolve()} or any(now[path] != before[path] for path in before):
        raise Failure(f"wrote {written}, not {output} alone")
    _check_result(read_image(scan), read_image(mask), read_image(output), options)
    return FILLED


def _check_result(scan, mask, result, options):
    if (result.GetSize(), result.GetPixelID()) != (scan.GetSize(), scan.GetPixelID()):
        raise Failure(f"filled another grid or type: {result.GetSize()} {result.GetPixelIDTypeAsString()}")
    for kind in ("Origin", "Spacing", "Direction"):
        given, got = (np.array(getattr(image, f"Get{kind}")()) for image in (scan, result))
        if not np.allclose(given, got, rtol=1e-5, atol=1e-5 * max(scan.GetSpacing())):
            raise Failure(f"changed the {kind.lower()} from {given} to {got}")
    first, second = (sitk.GetArrayFromImage(image) for image in (scan, result))
    hole = hole_on_grid(mask, scan)
    if "--grow" not in options and (bits(first) != bits(second))[~hole].any():
        raise Failure("changed voxels outside the mask")
    if not np.isfinite(second[hole]).all():
        raise Failure("filled in values that are not finite")


def run_command(arguments: list[str]) -> Answer:
    """`medinpaint run` in this process, with a time limit; the answer has its stderr, with that of ITK and warnings."""

    def stop(number, frame):
        raise TimeoutError

    with _captured_stderr() as texts, warnings.catch_warnings(record=True) as warned:  # else pytest would take them
        warnings.simplefilter("always")
        earlier = signal.signal(signal.SIGALRM, stop)
        signal.alarm(SECONDS)
        try:
            code = main(["run", *_quick(arguments)])
        except TimeoutError:
            code = -1
            traceback.print_exc()
        except (Exception, SystemExit):
            code = 1
            traceback.print_exc()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, earlier)
    return Answer(code, "".join([*texts, *(f"{each.category.__name__}: {each.message}\n" for each in warned)]))


def _quick(arguments):
    return [*arguments[3:], "--progress", "none", "--device", "cpu",
            *(() if "--iterations" in arguments else ("--iterations", "1")), "--", *arguments[:3]]  # fmt: skip


@contextlib.contextmanager
def _captured_stderr():
    """Capture stderr of Python and of libraries: after the block, the list has one text."""
    texts = []
    python = io.StringIO()
    with tempfile.TemporaryFile() as file:
        original = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            with contextlib.redirect_stderr(python):
                yield texts
        finally:
            os.dup2(original, 2)
            os.close(original)
            file.seek(0)
            texts.append(python.getvalue() + file.read().decode(errors="replace"))
