"""Reading volumes from files and folders, and writing them."""

import gzip
import os
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.measures.memory import PeakMemory
from MedInpaintLib.volumes import read as files
from MedInpaintLib.volumes.image import affine, check_scan, same_grid, with_voxels
from MedInpaintLib.volumes.mask import hole_on_grid
from MedInpaintLib.volumes.read import IMAGE_SUFFIXES, read_image
from MedInpaintLib.volumes.write import STALE, check_writable, replacing, write_image
from synthetic import GEOMETRIES, HOLE, SCALAR_TYPES, SHAPE, bits, extremes, random_array, volume


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


def announce(path, *size):
    content = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    content[42:48] = struct.pack("<3h", *size)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_announces_too_many_voxels_is_refused(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write_image(volume(random_array()), path)
    announce(path, 32000, 32000, 3)
    with pytest.raises(InputError, match=rf"^'scan{suffix}' is said to hold 32000 x 32000 x 3 voxels, .*: crop"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory")
def test_little_memory_is_taken_for_voxels_that_a_file_cannot_hold(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write_image(volume(random_array()), path)
    announce(path, 900, 1000, 1000)
    with PeakMemory() as peak, pytest.raises(InputError, match="cannot be read as an image"):
        read_image(path)
    assert peak.megabytes < 50


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory")
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_with_little_memory(tmp_path):
    path = tmp_path / "scan.nii.gz"
    write_image(volume(random_array()), path)
    path.write_bytes(path.read_bytes() + 128 * gzip.compress(bytes(2**24)))
    with PeakMemory() as peak, pytest.raises(InputError, match="cannot be read as an image"):
        read_image(path)
    assert peak.megabytes < 50


def test_a_lack_of_memory_is_told_as_such(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    write_image(volume(random_array()), tmp_path / "scan.nii")
    monkeypatch.setattr(files, "read_file", fail)
    with pytest.raises(InputError, match="There is not enough memory for this scan"):
        read_image(tmp_path / "scan.nii")


@pytest.mark.parametrize("words", ["Failed to allocate memory for image.", "std::bad_alloc"])
def test_a_lack_of_memory_in_itk_is_told_as_such_and_no_file_called_damaged(tmp_path, monkeypatch, words):
    def fail(*_, **__):
        raise RuntimeError(f"Exception thrown in SimpleITK ImageFileReader_Execute: {words}")

    path = tmp_path / "scan.nrrd"
    write_image(volume(random_array()), path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files.sitk.ImageFileReader, "Execute", fail)
        with pytest.raises(InputError, match="There is not enough memory for this scan"):
            read_image(path)
        with pytest.raises(InputError, match="There is not enough memory for this scan"):
            write_image(volume(random_array()), path)  # which reads it back
    monkeypatch.setattr(files.sitk, "WriteImage", fail)
    with pytest.raises(InputError, match="There is not enough memory for this scan"):
        write_image(volume(random_array()), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


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


@pytest.mark.parametrize(("suffix", "packed"), [(".nii", False), (".mha", False), (".nii.gz", True), (".nrrd", True)])
def test_a_metaimage_is_written_as_it_is_and_what_is_to_be_kept_is_compressed(tmp_path, suffix, packed):
    image = sitk.Image(40, 50, 60, sitk.sitkInt16)
    write_image(image, tmp_path / f"scan{suffix}")
    assert ((tmp_path / f"scan{suffix}").stat().st_size < 2 * image.GetNumberOfPixels()) == packed


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
    monkeypatch.setattr(files.sitk, "WriteImage", fail)
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


@pytest.mark.parametrize("name", [f"r.{'v' * 240}.nii", ".nii.gz", ".nii", "a.b c.mha"])
def test_any_name_that_the_system_takes_can_be_written(tmp_path, name):
    write_image(volume(random_array()), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["result.nii.gz", f"r.{'v' * 240}.nii", "résultat 脳.mha", "report.json"])
def test_what_a_killed_run_left_goes_after_an_hour_and_nothing_else_does(tmp_path, name):
    """One of less than an hour may be another run's that is still at work."""

    def used(name):
        with replacing(tmp_path / name) as temporary:
            temporary.write_text("new")
        return temporary

    ages = {used(name): STALE + 60, used(name): STALE - 60, used("other.nii.gz"): STALE + 60}
    ages[tmp_path / ".hidden.nii.gz"] = 1000 * STALE
    for path, age in ages.items():
        path.write_text("half")
        os.utime(path, times=(time.time() - age,) * 2)
    before = set(tmp_path.iterdir())
    used(name)
    assert before - set(tmp_path.iterdir()) == {next(iter(ages))}
    assert (tmp_path / name).read_text() == "new"


@pytest.mark.parametrize("at", ["stat", "unlink"])
def test_what_another_run_removes_at_the_same_time_is_no_obstacle(tmp_path, monkeypatch, at):
    real = getattr(Path, at)

    def gone(path, **options):
        if path.name.startswith("."):
            raise FileNotFoundError(path)
        return real(path, **options)

    with replacing(tmp_path / "a.nii") as temporary:
        temporary.write_text("first")
        os.utime(temporary, times=(0, 0))
        with monkeypatch.context() as patch:
            patch.setattr(Path, at, gone)
            other = replacing(tmp_path / "a.nii")
            path = other.__enter__()
        path.write_text("second")
        other.__exit__(None, None, None)
        assert (tmp_path / "a.nii").read_text() == "second"
    assert (tmp_path / "a.nii").read_text() == "first"


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
