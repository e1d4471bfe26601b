"""Reading volumes from files and folders."""

import gzip
import struct
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.measures.memory import PeakMemory
from MedInpaintLib.volumes import read
from MedInpaintLib.volumes.image import check_scan, same_grid
from MedInpaintLib.volumes.mask import hole_on_grid
from MedInpaintLib.volumes.read import IMAGE_SUFFIXES, read_image
from MedInpaintLib.volumes.write import check_writable, write_image
from synthetic import GEOMETRIES, SHAPE, random_array, volume

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory")


def write_nifti(path, array=None, header=()):
    """A volume in a file, in which these parts of the header, by offset, are replaced."""
    write_image(volume(random_array() if array is None else array), path)
    content = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    for offset, part in dict(header).items():
        content[offset : offset + len(part)] = part
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


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


def test_a_path_that_is_no_text_is_refused(tmp_path):
    for use in (read_image, check_writable):
        with pytest.raises(InputError, match=r"is no valid text \(UTF-8\): rename"):
            use(tmp_path / "\udcff.nii")


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
    path = write_nifti(tmp_path / "scan.nii", array, {40: struct.pack("<h", 4)})
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), array)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write_image(volume(np.random.default_rng(0).normal(size=(12, 12, 12))), path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match=rf"^'scan{suffix}' cannot be read as an image: it is damaged, incomplete"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000), gzip.compress(b"hello", mtime=0)])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.nrrd", "scan.mha", "scan.dcm", "notes.txt"])
def test_a_file_that_is_no_image_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^'{name}' cannot be read as an image"):
        read_image(tmp_path / name)


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"^'nowhere.nii' does not exist"):
        read_image("/tmp/nowhere.nii")


def test_a_nifti_with_sheared_axes_is_refused(tmp_path):
    matrix = struct.pack("<12f", 1, 0.3, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    path = write_nifti(tmp_path / "scan.nii", header={252: struct.pack("<2h", 0, 1), 280: matrix})
    with pytest.raises(InputError, match=r"^'scan.nii' has sheared axes"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize(
    "geometry",
    [
        {"spacing": (1e-6, 1, 1)},
        {"spacing": (1e30, 1, 1)},
        {"origin": (0, -1e12, 0)},
        {"direction": np.diag([1, 1, 1e-9])},
    ],
    ids=str,
)
def test_a_geometry_that_no_scan_has_is_refused(tmp_path, geometry, suffix):
    sitk.WriteImage(volume(random_array(), **geometry), str(tmp_path / f"scan{suffix}"))
    with pytest.raises(InputError, match=rf"^'scan{suffix}' states a voxel size, position or orientation that no"):
        read_image(tmp_path / f"scan{suffix}")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_states_too_many_voxels_is_refused(tmp_path, suffix):
    path = write_nifti(tmp_path / f"scan{suffix}", header={42: struct.pack("<3h", 32000, 32000, 3)})
    with pytest.raises(InputError, match=rf"^'scan{suffix}' states 32000 x 32000 x 3 voxels, .*: crop"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@on_linux
def test_no_memory_is_allocated_for_voxels_that_a_file_cannot_hold(tmp_path, suffix):
    path = write_nifti(tmp_path / f"scan{suffix}", header={42: struct.pack("<3h", 900, 1000, 1000)})
    with PeakMemory() as peak, pytest.raises(InputError, match="cannot be read as an image"):
        read_image(path)
    assert peak.megabytes < 50


@on_linux
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_with_little_memory(tmp_path):
    path = write_nifti(tmp_path / "scan.nii.gz")
    path.write_bytes(path.read_bytes() + 128 * gzip.compress(bytes(2**24)))
    with PeakMemory() as peak, pytest.raises(InputError, match="cannot be read as an image"):
        read_image(path)
    assert peak.megabytes < 50


def test_a_lack_of_memory_is_reported(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    path = write_nifti(tmp_path / "scan.nii")
    monkeypatch.setattr(read, "read_file", fail)
    with pytest.raises(InputError, match="There is not enough memory for this scan"):
        read_image(path)


NOT_VOLUMES = {
    "2 dimensions": sitk.GetImageFromArray(random_array()[0]),
    "single slice": sitk.GetImageFromArray(random_array()[:1]),
    "4 dimensions": sitk.JoinSeries([sitk.GetImageFromArray(random_array())] * 2),
    "3 values per voxel": sitk.GetImageFromArray(random_array(shape=(*SHAPE, 3)), isVector=True),
    "complex": sitk.GetImageFromArray(random_array("complex64")),
}


@pytest.mark.parametrize(("problem", "image"), NOT_VOLUMES.items(), ids=NOT_VOLUMES)
def test_an_image_that_is_no_volume_of_grey_levels_is_refused(tmp_path, problem, image):
    sitk.WriteImage(image, str(tmp_path / "scan.nii"))
    with pytest.raises(InputError, match=f"^'scan.nii' .*{problem}.*: give a 3-D volume"):
        read_image(tmp_path / "scan.nii")
    with pytest.raises(InputError, match=f"^The scan .*{problem}"):
        check_scan(image)
    with pytest.raises(InputError, match=f"^The mask .*{problem}"):
        hole_on_grid(image, volume(random_array()))


def write_series(folder, uid="1.2.3.4", positions=(0, 1, 2)):
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
        # The file names are in reverse order: the positions decide.
        writer.SetFileName(str(folder / f"{uid}-{99 - number}.dcm"))
        writer.Execute(slice_)


def test_a_folder_with_one_dicom_series_is_read_in_the_order_of_its_positions(tmp_path):
    write_series(tmp_path / "series", positions=[0, 2.5, 5, 7.5, 10, 12.5])
    (tmp_path / "series" / "notes.txt").write_text("not DICOM")
    image = read_image(tmp_path / "series")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), random_array("int16"))
    assert image.GetSpacing()[2] == pytest.approx(2.5)
    assert image.GetOrigin() == (-5, 7, 0)
    assert "Doe" not in "".join(image.GetMetaData(key) for key in image.GetMetaDataKeys())


@pytest.mark.parametrize(
    ("positions", "said"),
    [([0, 2.5, 5, 10, 12.5], "'series' has missing, doubled or unevenly spaced slices"), ([0], "is a single slice")],
)
def test_a_dicom_series_with_missing_slices_is_refused(tmp_path, positions, said):
    write_series(tmp_path / "series", positions=positions)
    with pytest.raises(InputError, match=said):
        read_image(tmp_path / "series")


def test_dicom_positions_with_rounding_errors_are_accepted(tmp_path):
    write_series(tmp_path / "series", positions=[0, 1.2, 2.41, 3.6, 4.8])
    assert read_image(tmp_path / "series").GetSize()[2] == 5


def test_a_folder_with_two_dicom_series_is_refused(tmp_path):
    write_series(tmp_path / "study")
    write_series(tmp_path / "study", uid="1.2.3.5")
    with pytest.raises(InputError, match=r"^The folder 'study' holds 2 DICOM series"):
        read_image(tmp_path / "study")


def test_an_empty_folder_is_refused(tmp_path, capfd):
    with pytest.raises(InputError, match="holds no DICOM series"):
        read_image(tmp_path)
    assert capfd.readouterr() == ("", "")
