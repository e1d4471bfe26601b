"""Reading, checking, putting on one grid and writing volumes and masks."""

import gzip
import itertools
import os
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib import image as image_module
from MedInpaintLib.errors import InputError
from MedInpaintLib.image import (
    IMAGE_SUFFIXES,
    affine,
    check_scan,
    check_writable,
    hole_on_grid,
    read_image,
    replacing,
    same_grid,
    scan_values,
    spacing_zyx,
    with_voxels,
    write_image,
)

INTEGER_TYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
SCALAR_TYPES = [*INTEGER_TYPES, "float32", "float64"]
SHAPE = (6, 7, 8)  # z, y, x


def rotation(degrees, axis=(1, 2, 3)):
    turn = sitk.VersorTransform(axis, np.deg2rad(degrees))
    return np.reshape(turn.GetMatrix(), (3, 3))


GEOMETRIES = {
    "axis-aligned": np.eye(3),
    "oblique": rotation(25),
    "left-handed": np.diag([1, 1, -1]),
    "oblique and left-handed": rotation(25) @ np.diag([-1, 1, 1]),
}


def volume(array, direction=None, spacing=(0.9, 1.1, 2.5), origin=(-31.25, 12.5, 100.75)):
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.ravel(np.eye(3) if direction is None else direction).tolist())
    return image


def random_array(dtype="float32", shape=SHAPE, seed=0):
    values = np.random.default_rng(seed).integers(0, 100, shape)
    return values.astype(dtype)


def extremes(dtype):
    """A random array that also holds the type's own limits."""
    array = random_array(dtype)
    limits = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    array[0, 0, :2] = limits.min, limits.max
    return array


def bits(array):
    return array.view(f"u{array.dtype.itemsize}")


def box(z, y, x, shape=SHAPE):
    hole = np.zeros(shape, bool)
    hole[z, y, x] = True
    return hole


HOLE = box(slice(2, 4), slice(2, 5), slice(3, 6))


def as_mask(hole, dtype="uint8", **geometry):
    return volume(np.asarray(hole).astype(dtype), **geometry)


# --- geometry


def test_affine_takes_an_index_to_the_point_that_simpleitk_gives():
    image = volume(random_array(), GEOMETRIES["oblique and left-handed"])
    point = affine(image) @ (1, 2, 3, 1)
    np.testing.assert_allclose(point[:3], image.TransformIndexToPhysicalPoint((1, 2, 3)), atol=1e-9)
    np.testing.assert_array_equal(spacing_zyx(image), (2.5, 1.1, 0.9))


def test_grids_are_the_same_up_to_a_hundredth_of_a_voxel():
    image = volume(random_array())
    assert same_grid(image, volume(random_array("uint8"), origin=(-31.25 + 0.008, 12.5, 100.75)))
    assert not same_grid(image, volume(random_array(), origin=(-31.25 + 0.01, 12.5, 100.75)))
    assert not same_grid(image, volume(random_array(), rotation(1)))
    assert not same_grid(image, volume(random_array(), spacing=(0.9, 1.1, 2.51)))
    assert not same_grid(image, volume(random_array()[1:]))


# --- files


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_every_scalar_type_comes_back_from_every_format_bit_for_bit(tmp_path, dtype, suffix):
    image = volume(extremes(dtype), GEOMETRIES["oblique and left-handed"])
    write_image(image, tmp_path / f"scan{suffix}")
    back = read_image(tmp_path / f"scan{suffix}")
    assert back.GetPixelID() == image.GetPixelID()
    assert same_grid(back, image)
    np.testing.assert_array_equal(bits(sitk.GetArrayFromImage(back)), bits(sitk.GetArrayFromImage(image)))


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
@pytest.mark.parametrize("direction", GEOMETRIES.values(), ids=GEOMETRIES)
def test_every_orientation_comes_back_from_every_format(tmp_path, direction, suffix):
    image = volume(random_array(), direction)
    write_image(image, tmp_path / f"scan{suffix}")
    np.testing.assert_allclose(affine(read_image(tmp_path / f"scan{suffix}")), affine(image), atol=1e-4)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_non_finite_voxels_and_negative_zeros_survive_a_file(tmp_path, dtype, suffix):
    array = random_array(dtype)
    array[0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    bits(array)[0, 0, 0] |= 5  # a payload, as some tools leave in their NaNs
    write_image(volume(array), tmp_path / f"scan{suffix}")
    back = sitk.GetArrayFromImage(read_image(tmp_path / f"scan{suffix}"))
    np.testing.assert_array_equal(bits(back), bits(array))


def test_a_big_endian_nifti_keeps_its_nan(tmp_path):
    array = random_array("float32")
    array[1, 1, 1] = np.nan
    header = bytearray(352)
    fields = {0: ("i", 348), 40: ("4h", 3, *SHAPE[::-1]), 70: ("2h", 16, 32), 76: ("4f", 1, 1, 1, 1), 108: ("f", 352)}
    for offset, (form, *values) in fields.items():
        struct.pack_into(f">{form}", header, offset, *values)
    header[344:348] = b"n+1\0"
    (tmp_path / "scan.nii").write_bytes(header + array.astype(">f4").tobytes())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "scan.nii")), array)


def test_paths_with_spaces_and_other_alphabets_work(tmp_path):
    folder = tmp_path / "Läsion 脳 мозг"
    folder.mkdir()
    write_image(volume(random_array()), folder / "scan – ñ.v1.5.nii.gz")
    assert read_image(str(folder / "scan – ñ.v1.5.nii.gz")).GetSize() == SHAPE[::-1]


def test_metadata_is_read(tmp_path):
    image = volume(random_array())
    image.SetMetaData("Scanner", "3 T")
    write_image(image, tmp_path / "scan.nrrd")
    assert read_image(tmp_path / "scan.nrrd").GetMetaData("Scanner") == "3 T"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_fourth_dimension_of_size_one_is_dropped(tmp_path, suffix):
    image = volume(random_array(), GEOMETRIES["oblique"])
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / f"scan{suffix}"))
    back = read_image(tmp_path / f"scan{suffix}")
    assert same_grid(back, image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))


def test_a_nifti_that_declares_four_dimensions_with_one_volume_is_read(tmp_path):
    array = random_array()
    array[1, 1, 1] = np.nan
    write_image(volume(array), tmp_path / "scan.nii")
    content = bytearray((tmp_path / "scan.nii").read_bytes())
    content[40:42] = struct.pack("<h", 4)
    (tmp_path / "scan.nii").write_bytes(content)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "scan.nii")), array)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write_image(volume(np.random.default_rng(0).normal(size=(12, 12, 12))), path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match=rf"^'scan{suffix}' cannot be read as an image: it is damaged, incomplete"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000), gzip.compress(b"hello")])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.nrrd", "scan.mha", "scan.dcm", "notes.txt"])
def test_a_file_that_is_no_image_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^'{name}' cannot be read as an image"):
        read_image(tmp_path / name)


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"^'nowhere.nii' does not exist"):
        read_image("/tmp/nowhere.nii")


def test_a_nifti_with_sheared_axes_is_refused(tmp_path):
    write_image(volume(random_array()), tmp_path / "scan.nii")
    content = bytearray((tmp_path / "scan.nii").read_bytes())
    content[252:256] = struct.pack("<2h", 0, 1)
    content[280:328] = struct.pack("<12f", 1, 0.3, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    (tmp_path / "scan.nii").write_bytes(content)
    with pytest.raises(InputError, match=r"^'scan.nii' has sheared axes"):
        read_image(tmp_path / "scan.nii")


NOT_VOLUMES = {
    "2 dimensions": sitk.GetImageFromArray(random_array()[0]),
    "single slice": sitk.GetImageFromArray(random_array()[:1]),
    "4 dimensions": sitk.JoinSeries([sitk.GetImageFromArray(random_array())] * 2),
    "3 values per voxel": sitk.GetImageFromArray(random_array(shape=(*SHAPE, 3)), isVector=True),
    "complex": sitk.GetImageFromArray(random_array("complex64")),
}


@pytest.mark.parametrize(("problem", "image"), NOT_VOLUMES.items(), ids=NOT_VOLUMES)
def test_what_is_no_grey_level_volume_is_refused(tmp_path, problem, image):
    sitk.WriteImage(image, str(tmp_path / "scan.nii"))
    with pytest.raises(InputError, match=f"^'scan.nii' .*{problem}.*: give a 3-D volume"):
        read_image(tmp_path / "scan.nii")
    with pytest.raises(InputError, match=f"^The scan .*{problem}"):
        check_scan(image)
    with pytest.raises(InputError, match=f"^The mask .*{problem}"):
        hole_on_grid(image, volume(random_array()))


def write_series(folder, uid, positions):
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, z in enumerate(positions):
        slice_ = sitk.JoinSeries(sitk.GetImageFromArray(random_array("int16")[number]))
        tags = {
            "0008|0060": "MR",
            "0008|0018": f"{uid}.{number}",
            "0020|000d": "1.2.3",
            "0020|000e": uid,
            "0020|0013": str(number),
            "0020|0032": f"-5\\7\\{z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0010|0010": "Doe^Jane",
        }
        for tag, value in tags.items():
            slice_.SetMetaData(tag, value)
        # The file names run against the slices' order: their positions decide.
        writer.SetFileName(str(folder / f"{uid}-{99 - number}.dcm"))
        writer.Execute(slice_)


def test_a_folder_with_one_dicom_series_is_read_in_the_order_of_its_positions(tmp_path):
    write_series(tmp_path / "series", "1.2.3.4", [0, 2.5, 5, 7.5, 10, 12.5])
    (tmp_path / "series" / "notes.txt").write_text("not DICOM")
    image = read_image(tmp_path / "series")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), random_array("int16"))
    assert image.GetSpacing()[2] == pytest.approx(2.5)
    assert image.GetOrigin() == (-5, 7, 0)
    assert "Doe" not in "".join(image.GetMetaData(key) for key in image.GetMetaDataKeys())


def test_a_dicom_series_with_a_missing_slice_is_refused(tmp_path):
    write_series(tmp_path / "series", "1.2.3.4", [0, 2.5, 5, 10, 12.5])
    with pytest.raises(InputError, match=r"'series' has missing, doubled or unevenly spaced slices"):
        read_image(tmp_path / "series")


def test_slice_positions_rounded_in_dicom_are_no_missing_slices(tmp_path):
    write_series(tmp_path / "series", "1.2.3.4", [0, 1.2, 2.41, 3.6, 4.8])
    assert read_image(tmp_path / "series").GetSize()[2] == 5


def test_a_folder_with_two_dicom_series_is_refused(tmp_path):
    write_series(tmp_path / "study", "1.2.3.4", [0, 1, 2])
    write_series(tmp_path / "study", "1.2.3.5", [0, 1, 2])
    with pytest.raises(InputError, match=r"^The folder 'study' holds 2 DICOM series"):
        read_image(tmp_path / "study")


def test_a_single_dicom_slice_is_refused(tmp_path):
    write_series(tmp_path / "series", "1.2.3.4", [0])
    with pytest.raises(InputError, match="is a single slice"):
        read_image(tmp_path / "series")


def test_an_empty_folder_is_refused(tmp_path, capfd):
    with pytest.raises(InputError, match="holds no DICOM series"):
        read_image(tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_sheared_axes_are_kept_by_nrrd_and_refused_by_nifti(tmp_path, suffix):
    image = volume(random_array(), [[1, 0.3, 0], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(InputError, match=r"cannot hold this volume's .* save it as .nrrd or .mha"):
        write_image(image, tmp_path / f"scan{suffix}")
    assert list(tmp_path.iterdir()) == []
    for kept in (".nrrd", ".mha"):
        write_image(image, tmp_path / f"scan{kept}")
        assert same_grid(read_image(tmp_path / f"scan{kept}"), image)


def test_an_upper_case_extension_is_written_and_read(tmp_path):
    write_image(volume(random_array()), tmp_path / "SCAN.NII.GZ")
    assert read_image(tmp_path / "SCAN.NII.GZ").GetSize() == SHAPE[::-1]


@pytest.mark.parametrize("failure", [RuntimeError("disk full"), OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch, failure):
    def fail(image, name, **options):
        with open(name, "wb") as file:
            file.write(b"half")
        raise failure

    path = tmp_path / "result.nii.gz"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(image_module.sitk, "WriteImage", fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else InputError
    with pytest.raises(expected, match=r"^$|'result.nii.gz' could not be written"):
        write_image(volume(random_array()), path)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(tmp_path, suffix):
    """A limit on the file's size stands for the full disk: ITK's NIfTI writer ignores both."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    path = tmp_path / f"result{suffix}"
    path.write_bytes(b"earlier")
    image = volume(np.random.default_rng(0).normal(size=(10, 10, 10)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(InputError, match="could not be written: free disk space"):
            write_image(image, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_swaps_in_the_new_file_only_at_the_end(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("earlier")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert path.read_text() == "earlier"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_writable_path_is_returned_and_nothing_is_left(tmp_path, suffix):
    assert check_writable(str(tmp_path / f"out{suffix}")) == tmp_path / f"out{suffix}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "out.txt", "out.gz", "out.png", "out.img", "nii"])
def test_an_extension_that_holds_no_volume_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=rf"^'{name}' has no supported file extension: use .nii or .nii.gz"):
        check_writable(tmp_path / name)


def test_other_extensions_can_be_asked_for(tmp_path):
    assert check_writable(tmp_path / "report.json", (".json",)).name == "report.json"
    with pytest.raises(InputError, match=r"use \.json\.$"):
        check_writable(tmp_path / "report.nii", (".json",))


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^'folder.nii' is a folder"):
        check_writable(tmp_path / "folder.nii")
    with pytest.raises(InputError, match="does not exist"):
        check_writable(tmp_path / "nowhere" / "out.nii")
    with pytest.raises(InputError, match="does not exist"):
        check_writable(tmp_path / "file" / "out.nii")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        check_writable(tmp_path / "out.nii")


# --- scans


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_every_scalar_type_is_accepted_as_a_scan_and_computed_in_float32(dtype):
    array = random_array(dtype)
    image = volume(array)
    check_scan(image)
    values = scan_values(image, HOLE)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, array)


@pytest.mark.parametrize(
    "array",
    [np.full(SHAPE, 7, "int16"), np.full(SHAPE, np.nan), np.where(HOLE, np.nan, 3.0), np.where(HOLE, 1e300, 3.0)],
    ids=["one value", "all NaN", "one value and NaN", "one value and overflow"],
)
def test_a_scan_without_contrast_is_refused(array):
    with pytest.raises(InputError, match=r"^The scan has the same value in every voxel"):
        check_scan(volume(array))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_without_a_finite_value_within_the_head_are_counted(value):
    array = random_array("float64")
    array[3, 3, 3] = array[1, 4, 2] = value
    with pytest.raises(InputError, match="has 2 non-finite voxels"):
        scan_values(volume(array), box(0, 0, 0))
    with pytest.raises(InputError, match="has 1 non-finite voxels"):
        scan_values(volume(array), box(3, 3, 3))


def test_non_finite_voxels_in_the_hole_become_zero():
    array = np.where(HOLE, np.nan, random_array("float64"))
    np.testing.assert_array_equal(scan_values(volume(array), HOLE), np.where(HOLE, 0, array))


def test_a_nan_background_becomes_zero_but_a_diagonal_neighbour_is_within_the_head():
    head = box(slice(1, 5), slice(1, 6), slice(2, 7))
    array = np.where(head, random_array("float32") + 1, np.nan)
    np.testing.assert_array_equal(scan_values(volume(array), HOLE), np.where(head, array, 0))
    array[1, 1, 3] = np.nan  # joined to the background by a face
    scan_values(volume(array), HOLE)
    array[2, 2, 3] = np.nan  # joined by an edge only
    with pytest.raises(InputError, match="has 1 non-finite voxels"):
        scan_values(volume(array), box(0, 0, 0))


# --- masks


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_a_mask_of_any_scalar_type_on_the_scans_grid_is_taken_as_it_is(dtype):
    scan = volume(random_array(), GEOMETRIES["oblique and left-handed"])
    mask = as_mask(HOLE * 3, dtype, direction=GEOMETRIES["oblique and left-handed"])
    np.testing.assert_array_equal(hole_on_grid(mask, scan), HOLE)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
@pytest.mark.parametrize("shift", [0, 0.3], ids=["same grid", "shifted grid"])
def test_a_label_selects_one_lesion(dtype, shift):
    labels = np.zeros(SHAPE, dtype)
    labels[2:4, 2:4, 2:4] = 1
    labels[2:4, 2:4, 4:7] = 2
    mask = as_mask(labels, dtype, origin=(-31.25 + shift, 12.5, 100.75))
    scan = volume(random_array())
    np.testing.assert_array_equal(hole_on_grid(mask, scan), labels > 0)
    np.testing.assert_array_equal(hole_on_grid(mask, scan, label=2), labels == 2)


def test_a_label_that_is_not_there_is_answered_with_those_that_are():
    scan = volume(random_array())
    with pytest.raises(InputError, match=r"^The mask has no label 9: choose one of its labels \(3, 1000001\)\.$"):
        hole_on_grid(as_mask(HOLE * 3 + box(0, 0, 0) * 1000001, "int32"), scan, label=9)
    many = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    with pytest.raises(InputError, match=r"\(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.\)"):
        hole_on_grid(as_mask(many, "int16"), scan, label=999)


def ball(image, centre, radius):
    """The voxels of an image's grid whose centres lie in a ball of physical space: the tests' own ground truth."""
    inside = np.zeros(image.GetSize()[::-1], bool)
    for index in itertools.product(*map(range, image.GetSize())):
        point = image.TransformIndexToPhysicalPoint(index)
        inside[index[::-1]] = np.linalg.norm(np.subtract(point, centre)) <= radius
    return inside


MASK_GRIDS = {
    "finer": (np.eye(3), (0.5, 0.5, 0.5)),
    "coarser": (np.eye(3), (1.7, 1.7, 1.7)),
    "rotated": (rotation(30), (0.6, 0.6, 0.6)),
    "left-handed": (np.diag([1, -1, 1]), (0.7, 0.6, 0.8)),
}


@pytest.mark.parametrize("scan_direction", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize(("direction", "spacing"), MASK_GRIDS.values(), ids=MASK_GRIDS)
def test_a_mask_on_another_grid_hits_the_same_physical_places(direction, spacing, scan_direction):
    scan = volume(random_array(shape=(12, 14, 16)), scan_direction, spacing=(1, 1.2, 1.5))
    centre = np.array(scan.TransformContinuousIndexToPhysicalPoint((7.3, 6.8, 5.6)))
    shape = np.ceil(14 / np.array(spacing)[::-1]).astype(int)
    mask = volume(np.zeros(shape, "uint8"), direction, spacing)
    middle = np.array(mask.TransformContinuousIndexToPhysicalPoint(((shape[::-1] - 1) / 2).tolist()))
    mask.SetOrigin((np.array(mask.GetOrigin()) + centre - middle).tolist())
    lesion = as_mask(ball(mask, centre, 4), direction=direction, spacing=spacing, origin=mask.GetOrigin())

    hole = hole_on_grid(lesion, scan)

    # A nearest voxel lies at most half the mask's voxel diagonal away.
    slack = np.linalg.norm(spacing) / 2
    assert not (hole & ~ball(scan, centre, 4 + slack)).any()
    assert not (~hole & ball(scan, centre, 4 - slack)).any()


def test_a_cropped_mask_lands_where_it_was_cut_from():
    direction = GEOMETRIES["oblique and left-handed"]
    scan = volume(random_array(), direction)
    cropped = sitk.RegionOfInterest(as_mask(HOLE, "int64", direction=direction), (4, 4, 3), (2, 1, 1))
    np.testing.assert_array_equal(hole_on_grid(cropped, scan), HOLE)


def test_a_small_lesion_between_the_scans_voxels_is_not_lost():
    scan = volume(random_array(), spacing=(1, 1, 1), origin=(0, 0, 0))
    fine = np.zeros((24, 28, 32), bool)
    fine[8:14, 8:14, 8:14] = True
    fine[18, 17, 26] = True  # at (26, 17, 18) / 4 - 3 / 8 mm = (6.125, 3.875, 4.125): nearest to (6, 4, 4)
    fine[18, 6, 6:8] = True  # at x = 1.125 and 1.375, y = 1.125: nearest to (1, 1, 4)
    mask = as_mask(fine, spacing=(0.25, 0.25, 0.25), origin=(-0.375, -0.375, -0.375))
    hole = hole_on_grid(mask, scan)
    assert hole[4, 4, 6]
    assert hole[4, 1, 1]
    assert hole.sum() == 2 + hole[:4].sum()


def test_a_lesion_that_lies_wholly_between_the_scans_slices_is_refused():
    scan = volume(random_array(), spacing=(1, 1, 5), origin=(0, 0, 0))
    thin = np.zeros((25, 7, 8), bool)
    thin[7:9, 2:5, 2:5] = True  # slices at 7 and 8 mm, the scan's at 5 and 10 mm
    with pytest.raises(InputError, match="falls between the scan's voxels"):
        hole_on_grid(as_mask(thin, spacing=(1, 1, 1), origin=(0, 0, 0)), scan)


def test_a_lesion_that_does_not_overlap_the_scan_is_refused():
    with pytest.raises(InputError, match="does not overlap the scan"):
        hole_on_grid(as_mask(HOLE, origin=(500, 0, 0)), volume(random_array()))


def test_a_lesion_partly_outside_the_scan_is_refused_with_the_share_outside():
    scan = volume(random_array(), spacing=(1, 1, 1), origin=(0, 0, 0))
    row = box(3, 3, slice(0, 8))
    assert hole_on_grid(as_mask(row, spacing=(1, 1, 1), origin=(1, 0, 0)), scan).sum() == 7
    with pytest.raises(InputError, match=r"25 % of the mask's lesion lies outside the scan"):
        hole_on_grid(as_mask(row, spacing=(1, 1, 1), origin=(3, 0, 0)), scan)


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match=r"^The mask is empty: "):
        hole_on_grid(as_mask(HOLE * 0), volume(random_array()))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_mask_with_voxels_that_are_not_finite_is_refused(value):
    with pytest.raises(InputError, match=r"^The mask has voxels that are not finite"):
        hole_on_grid(volume(np.where(HOLE, value, 1.0)), volume(random_array()))


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 0.5)], ids=["same grid", "finer grid"])
def test_a_mask_of_the_whole_scan_is_refused(spacing):
    scan = volume(random_array(), spacing=(1, 1, 1), origin=(0, 0, 0))
    shape = (np.array(SHAPE) / spacing[0]).astype(int)
    with pytest.raises(InputError, match=r"^The mask covers the whole scan"):
        hole_on_grid(as_mask(np.ones(shape), spacing=spacing, origin=(0, 0, 0)), scan)


# --- results


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_only_the_holes_voxels_change_and_in_the_scans_own_order(dtype):
    array = extremes(dtype)
    scan = volume(array, GEOMETRIES["oblique and left-handed"])
    scan.SetMetaData("Scanner", "3 T")
    values = np.arange(HOLE.sum(), dtype=np.float32)
    result = with_voxels(scan, values, HOLE)
    voxels = sitk.GetArrayFromImage(result)
    assert result.GetPixelID() == scan.GetPixelID()
    assert result.GetMetaData("Scanner") == "3 T"
    np.testing.assert_array_equal(affine(result), affine(scan))
    np.testing.assert_array_equal(bits(voxels)[~HOLE], bits(array)[~HOLE])
    np.testing.assert_array_equal(voxels[HOLE], values)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(scan), array)


def test_nan_payloads_and_negative_zeros_outside_the_hole_stay_as_they_are():
    array = random_array("float32")
    bits(array)[0, 0, :3] = 0x7FC12345, 0x7F812345, 0x80000000  # quiet NaN, signalling NaN, -0.0
    voxels = sitk.GetArrayFromImage(with_voxels(volume(array), np.ones(HOLE.sum()), HOLE))
    np.testing.assert_array_equal(bits(voxels)[~HOLE], bits(array)[~HOLE])


@pytest.mark.parametrize("dtype", INTEGER_TYPES)
def test_integer_scans_get_rounded_values_clipped_to_the_types_range(dtype):
    hole = box(0, 0, slice(0, 5))
    scan = volume(random_array(dtype))
    values = sitk.GetArrayFromImage(with_voxels(scan, np.array([-1e30, 1e30, 2.6, 3.4, 4.0]), hole))[hole]
    assert values.tolist() == [np.iinfo(dtype).min, np.iinfo(dtype).max, 3, 3, 4]


@pytest.mark.parametrize("values", [np.ones(3), np.ones(SHAPE), np.ones(()), np.full(HOLE.sum(), np.nan)])
def test_values_that_do_not_fill_the_hole_are_a_defect_of_the_caller(values):
    with pytest.raises(ValueError, match="18 finite values"):
        with_voxels(volume(random_array()), values, HOLE)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_result_made_from_a_nifti_can_be_written_in_every_format(tmp_path, suffix):
    """NIfTI's own metadata has entries that SimpleITK cannot give as text."""
    write_image(volume(random_array("int16"), GEOMETRIES["oblique"]), tmp_path / "scan.nii.gz")
    scan = read_image(tmp_path / "scan.nii.gz")
    result = with_voxels(scan, np.full(HOLE.sum(), 50.0), HOLE)
    write_image(result, tmp_path / f"result{suffix}")
    back = read_image(tmp_path / f"result{suffix}")
    assert same_grid(back, scan)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), np.where(HOLE, 50, random_array("int16")))
    assert "UNKNOWN_PRINT" not in "".join(result.GetMetaData(key) for key in result.GetMetaDataKeys())
