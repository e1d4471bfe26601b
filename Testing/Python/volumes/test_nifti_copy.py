"""A result in a NIfTI file keeps the header of the scan's NIfTI file, and every byte outside the hole."""

import gzip
from itertools import product

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.volumes.image import with_voxels
from MedInpaintLib.volumes.nifti_copy import nifti_file, write_filled_copy
from MedInpaintLib.volumes.read import read_image
from synthetic import HOLE, SHAPE, rotation

AFFINES = {"qform": rotation(20), "sform": rotation(20) @ np.diag([0.9, 1.1, 2.5])}
NOTES = [(6, b"a comment of the scanner"), (4, b"<?xml version='1.0'?><afni/>")]
# Values that ITK's own header would not have.
FIELDS = {
    "cal_max": 4000, "cal_min": 12, "descrip": b"TE=2.5;sec=41242.0;Scan \xe9", "aux_file": b"aux", "toffset": 1.5,
    "intent_code": 1001, "intent_name": b"made up", "intent_p1": 3.5, "slice_code": 2, "slice_end": 5,
    "slice_duration": 0.25, "dim_info": 57, "xyzt_units": 10,
}  # fmt: skip
ONE, TWO = nibabel.Nifti1Image, nibabel.Nifti2Image
FILES = {
    "int16": ("<i2", None, ONE), "uint8": ("u1", None, ONE), "float32": ("<f4", None, ONE),
    "float64": ("<f8", None, ONE), "int64": ("<i8", None, ONE), "big-endian int16": (">i2", None, ONE),
    "big-endian float32": (">f4", None, ONE), "scaled int16": ("<i2", (0.37, -12.5), ONE),
    "scaled uint8": ("u1", (-2.0, 300.0), ONE), "scaled float32": ("<f4", (2.5, 1), ONE),
    "scaled big-endian uint16": (">u2", (1.0, 7.0), ONE), "NIfTI-2 int16": ("<i2", None, TWO),
    "NIfTI-2 float32": ("<f4", None, TWO), "big-endian NIfTI-2": (">i2", None, TWO),
    "scaled NIfTI-2": ("<u2", (0.5, 3), TWO),
}  # fmt: skip


def write_scan(path, kind="<i2", scaling=None, make=ONE, shape=SHAPE[::-1], notes=NOTES):
    """A NIfTI file with unusual values in its header, extensions, and a few bytes after the voxels."""
    kind = np.dtype(kind)
    stored = np.random.default_rng(1).integers(10, 120, shape).astype(kind)
    image = make(stored, np.eye(4), dtype=kind.newbyteorder("="))
    if kind.byteorder == ">":
        image = make(stored, np.eye(4), image.header.as_byteswapped(">"))
    header = image.header
    for code, content in notes:
        header.extensions.append(nibabel.nifti1.Nifti1Extension(code, content))
    for name, value in FIELDS.items():
        header[name] = value
    for form, matrix in AFFINES.items():
        placed = np.eye(4)
        placed[:3, :3], placed[:3, 3] = matrix, (-31, 12, 100)
        getattr(image, f"set_{form}")(placed, 4 if form == "sform" else 1)
    image.header.set_slope_inter(*(scaling or (None, None)))
    content = bytearray(image.to_bytes())
    start = len(content) - stored.nbytes
    content[start:] = stored.tobytes(order="F")
    slope = 112 if make is ONE else 176  # nibabel scales anew when it writes
    form = np.dtype("f4" if slope == 112 else "f8").newbyteorder(kind.byteorder)
    content[slope : slope + 2 * form.itemsize] = np.array(scaling or (0, 0), form).tobytes()
    content += b"after the voxels"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return start, stored


def unpacked(path):
    content = path.read_bytes()
    assert (content[:2] == b"\x1f\x8b") == (path.suffix == ".gz")
    return gzip.decompress(content) if path.suffix == ".gz" else content


def fill(source, target, values):
    scan = read_image(source)
    result = with_voxels(scan, np.asarray(values, float), HOLE)
    write_filled_copy(nifti_file(source, scan), target, result, HOLE)


@pytest.mark.parametrize(("before", "after"), list(product([".nii", ".nii.gz"], repeat=2)))
@pytest.mark.parametrize(("kind", "scaling", "make"), FILES.values(), ids=FILES)
def test_the_header_its_extensions_and_all_voxels_outside_the_hole_survive(
    tmp_path, kind, scaling, make, before, after
):
    source, target = tmp_path / f"scan{before}", tmp_path / f"filled{after}"
    start, stored = write_scan(source, kind, scaling, make)
    slope, intercept = scaling or (1, 0)
    wanted = slope * np.linspace(20, 100, HOLE.sum()) + intercept
    fill(source, target, wanted)

    old, new = nibabel.load(source), nibabel.load(target)
    assert type(new) is type(old)
    for name in old.header:
        assert old.header[name].tobytes() == new.header[name].tobytes(), name
    for name, value in FIELDS.items():
        assert old.header[name] == np.asarray(value, old.header[name].dtype), name  # the test's own file has them
    assert new.header.binaryblock == old.header.binaryblock
    assert new.header.endianness == old.header.endianness == (">" if kind[0] == ">" else "<")
    assert [(each.get_code(), each.get_content()) for each in new.header.extensions] == [
        (each.get_code(), each.get_content()) for each in old.header.extensions
    ]
    assert len(new.header.extensions) == 2

    first, second = unpacked(source), unpacked(target)
    assert second[:start] == first[:start]
    assert second[start + stored.nbytes :] == first[start + stored.nbytes :] == b"after the voxels"
    voxels = np.frombuffer(second, kind, stored.size, start).reshape(SHAPE)
    np.testing.assert_array_equal(voxels[~HOLE], stored.T[~HOLE])
    step = abs(slope) if np.dtype(kind).kind in "iu" else 1e-4
    values = np.asarray(new.dataobj).T
    assert np.abs(values[HOLE] - wanted).max() <= 0.5001 * step
    if np.dtype(kind).kind in "iu":
        np.testing.assert_array_equal(voxels[HOLE], np.rint((wanted - intercept) / slope))


@pytest.mark.parametrize(
    ("kind", "scaling", "limits"),
    [
        ("u1", (2.0, -10.0), (0, 255)),
        ("<i2", (-0.5, 3.0), (32767, -32768)),
        ("<i8", (0.5, 0.0), (-(2**63), 2**63 - 1024)),
    ],
)
def test_values_that_a_scaled_file_cannot_store_are_clipped_not_wrapped(tmp_path, kind, scaling, limits):
    start, stored = write_scan(tmp_path / "scan.nii", kind, scaling)
    fill(tmp_path / "scan.nii", tmp_path / "filled.nii", np.repeat([-1e30, 1e30], HOLE.sum() // 2))
    voxels = np.frombuffer((tmp_path / "filled.nii").read_bytes(), kind, stored.size, start).reshape(SHAPE)
    assert set(voxels[HOLE].tolist()) == set(limits)


def test_a_fourth_axis_of_size_one_stays(tmp_path):
    write_scan(tmp_path / "scan.nii", shape=(*SHAPE[::-1], 1))
    fill(tmp_path / "scan.nii", tmp_path / "filled.nii", np.full(HOLE.sum(), 77))
    assert nibabel.load(tmp_path / "filled.nii").shape == (*SHAPE[::-1], 1)


def test_not_a_number_outside_the_hole_keeps_its_bits(tmp_path):
    start, _ = write_scan(tmp_path / "scan.nii", "<f4")
    content = bytearray((tmp_path / "scan.nii").read_bytes())
    content[start : start + 4] = b"\x05\x00\xc0\x7f"  # a payload, as some tools leave in their NaNs
    (tmp_path / "scan.nii").write_bytes(content)
    fill(tmp_path / "scan.nii", tmp_path / "filled.nii", np.full(HOLE.sum(), 77))
    assert (tmp_path / "filled.nii").read_bytes()[start : start + 4] == b"\x05\x00\xc0\x7f"


def test_equal_results_are_equal_files(tmp_path):
    write_scan(tmp_path / "scan.nii.gz")
    for name in ("a.nii.gz", "b.nii.gz"):
        fill(tmp_path / "scan.nii.gz", tmp_path / name, np.full(HOLE.sum(), 77))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_file_that_changed_after_it_was_read_is_noticed(tmp_path):
    source = tmp_path / "scan.nii"
    start, _ = write_scan(source, scaling=(2, 1))
    scan = read_image(source)
    content = bytearray(source.read_bytes())
    content[start + 1] ^= 1
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"^The scan's file was changed while it was read: run it again\.$"):
        write_filled_copy(nifti_file(source, scan), tmp_path / "filled.nii", scan, HOLE)
    source.write_bytes(content[:-100])
    with pytest.raises(InputError, match=r"^'scan.nii' was changed while it was read: run it again\.$"):
        nifti_file(source, scan)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".img"])
def test_only_single_nifti_files_are_copied(tmp_path, suffix):
    scan = sitk.Image(4, 4, 4, sitk.sitkInt16)
    sitk.WriteImage(scan, str(tmp_path / f"scan{suffix}"))
    for path in (tmp_path, *tmp_path.iterdir()):
        assert nifti_file(path, scan) is None
