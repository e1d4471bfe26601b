"""Writing volumes: every format keeps every voxel, and a failure keeps the earlier file."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.volumes.image import affine, same_grid, with_voxels
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


@pytest.mark.parametrize("name", [f"r.{'v' * 240}.nii", ".nii.gz", ".nii", "a.b c.mha"])
def test_any_file_name_that_the_system_allows_can_be_written(tmp_path, name):
    write_image(volume(random_array()), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("suffix", "packed"), [(".nii", False), (".mha", False), (".nii.gz", True), (".nrrd", True)])
def test_only_nii_gz_and_nrrd_are_compressed(tmp_path, suffix, packed):
    image = sitk.Image(40, 50, 60, sitk.sitkInt16)
    write_image(image, tmp_path / f"scan{suffix}")
    assert ((tmp_path / f"scan{suffix}").stat().st_size < 2 * image.GetNumberOfPixels()) == packed


def test_an_upper_case_extension_is_written_and_read(tmp_path):
    write_image(volume(random_array()), tmp_path / "SCAN.NII.GZ")
    assert read_image(tmp_path / "SCAN.NII.GZ").GetSize() == SHAPE[::-1]


def test_paths_with_spaces_and_other_alphabets_work(tmp_path):
    folder = tmp_path / "Läsion 脳 мозг"
    folder.mkdir()
    write_image(volume(random_array()), folder / "scan – ñ.v1.5.nii.gz")
    assert read_image(str(folder / "scan – ñ.v1.5.nii.gz")).GetSize() == SHAPE[::-1]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_sheared_axes_are_kept_by_nrrd_and_refused_by_nifti(tmp_path, suffix):
    image = volume(random_array(), [[1, 0.3, 0], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(InputError, match=r"cannot hold this volume's .* save it as .nrrd or .mha"):
        write_image(image, tmp_path / f"scan{suffix}")
    assert list(tmp_path.iterdir()) == []
    for kept in (".nrrd", ".mha"):
        write_image(image, tmp_path / f"scan{kept}")
        assert same_grid(read_image(tmp_path / f"scan{kept}"), image)


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


@pytest.mark.parametrize("words", ["Failed to allocate memory for image.", "std::bad_alloc"])
def test_a_lack_of_memory_in_itk_is_reported_and_keeps_the_earlier_file(tmp_path, monkeypatch, words):
    def fail(*_, **__):
        raise RuntimeError(f"Exception thrown in SimpleITK ImageFileReader_Execute: {words}")

    path = tmp_path / "scan.nrrd"
    write_image(volume(random_array()), path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(sitk.ImageFileReader, "Execute", fail)
        with pytest.raises(InputError, match="There is not enough memory for this scan"):
            read_image(path)
        with pytest.raises(InputError, match="There is not enough memory for this scan"):
            write_image(volume(random_array()), path)  # a write reads the file back
    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(InputError, match="There is not enough memory for this scan"):
        write_image(volume(random_array()), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [RuntimeError("disk full"), OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch, failure):
    def fail(image, name, **options):
        with open(name, "wb") as file:
            file.write(b"half")
        raise failure

    path = tmp_path / "result.nii.gz"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(sitk, "WriteImage", fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else InputError
    with pytest.raises(expected, match=r"^$|'result.nii.gz' could not be written"):
        write_image(volume(random_array()), path)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(tmp_path, suffix):
    """A limit on the file size replaces the full disk. ITK's NIfTI writer ignores both."""
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
        assert path.read_text(encoding="utf-8") == "earlier"
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["result.nii.gz", f"r.{'v' * 240}.nii", "résultat 脳.mha", "report.json"])
def test_the_temporary_files_of_a_killed_run_are_deleted_after_an_hour_and_no_others(tmp_path, name):
    """A younger file may belong to another run that is still working."""

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
    assert (tmp_path / name).read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("at", ["stat", "unlink"])
def test_a_temporary_file_that_another_run_deletes_first_is_no_error(tmp_path, monkeypatch, at):
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
        assert (tmp_path / "a.nii").read_text(encoding="utf-8") == "second"
    assert (tmp_path / "a.nii").read_text(encoding="utf-8") == "first"


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_writable_path_is_returned_and_no_file_is_created(tmp_path, suffix):
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
