"""A filled DICOM series: what of its headers is new, and that nothing but the hole changes in its pixels."""

import os
import sys

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import write_dicom
from MedInpaintLib import InputError, __version__
from MedInpaintLib.volumes.dicom.derived import export_series
from MedInpaintLib.volumes.image import same_grid, with_voxels
from MedInpaintLib.volumes.read import read_image, series_files
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from synthetic import GEOMETRIES, box, random_array, volume

HOLE = box(slice(2, 4), slice(2, 5), slice(3, 6), (6, 7, 7))
CHANGED = {
    "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime",
    "ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime", "ImageType",
    "ContentQualification", "DerivationDescription", "SourceImageSequence", "ContributingEquipmentSequence",
    "PixelData",
}  # fmt: skip
SLOPE, INTERCEPT = ("RescaleSlope", 1), ("RescaleIntercept", 0)
KINDS = {
    "12 bits": {}, "16 bits": {"bits": 16}, "signed": {"kind": "int16"}, "8 bits": {"kind": "uint8", "bits": 8},
    "shifted": {"RescaleSlope": "1", "RescaleIntercept": "-1024"},
    "in steps of 2": {"RescaleSlope": "2", "RescaleIntercept": "5"},
    "in steps of a quarter, signed": {"kind": "int16", "RescaleSlope": "0.25", "RescaleIntercept": "-3"},
}  # fmt: skip


def make(folder, array=None, direction=GEOMETRIES["oblique"], **options):
    """A series with 7 columns and rows, so that the bytes of an 8-bit plane are padded, and its scan."""
    array = random_array("int16", (6, 7, 7)) if array is None else array
    write_dicom(volume(array, direction), folder / "series", **options)
    return read_image(folder / "series")


def export(folder, scan, values=None, about="model vae3"):
    """Fill the hole and export; returns the filled scan and the old and new datasets in the order of position."""
    values = np.linspace(3, 99, HOLE.sum()) if values is None else values
    filled = with_voxels(scan, np.asarray(values, float), HOLE)
    files = series_files(folder / "series")
    export_series(files, scan, filled, folder / "out", about)
    names = series_files(folder / "out")
    return filled, [pydicom.dcmread(file) for file in files], [pydicom.dcmread(file) for file in names]


def raw(data):
    return np.frombuffer(data.PixelData, f"<u{data.BitsAllocated // 8}", data.Rows * data.Columns).reshape(7, 7)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_every_pixel_outside_the_hole_keeps_its_bits_and_the_series_reads_back_as_the_result(tmp_path, options):
    scan = make(tmp_path, **options)
    slope, intercept = (float(options.get(name, default)) for name, default in (SLOPE, INTERCEPT))
    filled, before, after = export(tmp_path, scan, slope * np.linspace(3, 99, HOLE.sum()) + intercept)
    for plane, old, new in zip(HOLE, before, after, strict=True):
        np.testing.assert_array_equal(raw(new)[~plane], raw(old)[~plane])
        assert len(new.PixelData) % 2 == 0
    back = read_image(tmp_path / "out")
    assert back.GetPixelID() == scan.GetPixelID()
    assert same_grid(back, scan)
    np.testing.assert_allclose(back.GetOrigin(), scan.GetOrigin(), atol=1e-9)
    values, wanted = (sitk.GetArrayFromImage(image).astype(float) for image in (back, filled))
    np.testing.assert_array_equal(values[~HOLE], wanted[~HOLE])
    assert np.abs(values - wanted).max() <= slope / 2
    assert (values != sitk.GetArrayFromImage(scan))[HOLE].mean() > 0.8


def test_values_that_cannot_be_stored_become_the_nearest_that_can(tmp_path):
    for kind, bits, limits in (("uint16", 12, (0, 4095)), ("int16", 12, (-2048, 2047)), ("uint8", 8, (0, 255))):
        folder = tmp_path / f"{kind}{bits}"
        scan = make(folder, kind=kind, bits=bits, RescaleSlope="0.5", RescaleIntercept="0")  # ITK makes it float64
        *_, after = export(folder, scan, np.repeat([-1e9, 1e9], HOLE.sum() // 2))
        filled = np.concatenate([new.pixel_array[plane] for plane, new in zip(HOLE, after, strict=True)])
        assert set(filled.tolist()) == set(limits)


def test_the_headers_say_that_the_series_is_new_derived_synthetic_and_for_research(tmp_path):
    _, before, after = export(tmp_path, make(tmp_path))
    assert len({new.SOPInstanceUID for new in after} | {old.SOPInstanceUID for old in before}) == 2 * len(before)
    assert len({new.SeriesInstanceUID for new in after}) == 1
    for old, new in zip(before, after, strict=True):
        added = new.keys() - old.keys() - {0x0008001C}  # whose name pydicom 2 does not know
        assert {new[tag].keyword for tag in added} <= CHANGED
        for element in old:
            if element.keyword not in CHANGED:
                assert new[element.tag] == element
        assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
        assert new.SeriesInstanceUID != old.SeriesInstanceUID
        assert new.StudyInstanceUID == old.StudyInstanceUID
        assert new.FrameOfReferenceUID == old.FrameOfReferenceUID
        assert new.ImageType == ["DERIVED", "SECONDARY", "M", "ND"]
        assert new[0x0008001C].value == "YES"
        assert new.ContentQualification == "RESEARCH"
        assert new.LossyImageCompression == "00"
        assert new.SeriesNumber == 1003
        assert new.SeriesDescription == "SYNTHETIC MedInpaint MPRAGE sagittal"
        assert "synthetic tissue" in new.DerivationDescription
        assert "model vae3" in new.DerivationDescription
        (source,) = new.SourceImageSequence
        assert source.ReferencedSOPInstanceUID == old.SOPInstanceUID
        assert source.ReferencedSOPClassUID == old.SOPClassUID
        assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        (equipment,) = new.ContributingEquipmentSequence
        assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("MedInpaint", __version__)
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"


def test_what_described_the_old_pixels_is_corrected_or_dropped_and_the_history_stays(tmp_path):
    equipment, icon = Dataset(), Dataset()
    equipment.Manufacturer, icon.Rows = "An earlier program", 1
    scan = make(
        tmp_path, SmallestImagePixelValue=0, LargestImagePixelValue=99, SmallestPixelValueInSeries=0,
        LargestPixelValueInSeries=99, IconImageSequence=[icon], ContributingEquipmentSequence=[equipment],
        DerivationDescription="Bias corrected.", SeriesDescription="x" * 64, TimezoneOffsetFromUTC="+0930",
    )  # fmt: skip
    _, _, after = export(tmp_path, scan, np.full(HOLE.sum(), 3000))
    touched = HOLE.any(axis=(1, 2))
    assert [new.LargestImagePixelValue == 3000 for new in after] == touched.tolist()
    for new in after:
        assert new.SmallestImagePixelValue == new.pixel_array.min()
        assert new.LargestImagePixelValue == new.pixel_array.max()
        assert new.LargestPixelValueInSeries == 3000
        assert new.SmallestPixelValueInSeries == min(each.pixel_array.min() for each in after)
        assert "IconImageSequence" not in new
        assert [each.Manufacturer for each in new.ContributingEquipmentSequence] == [
            "An earlier program",
            "MedInpaint developers",
        ]
        assert new.DerivationDescription.endswith("Bias corrected.")
        assert len(new.SeriesDescription) == 64
        assert new.SeriesDescription.startswith("SYNTHETIC ")


def test_the_extremes_of_signed_pixels_are_signed(tmp_path):
    scan = make(tmp_path, random_array("int16", (6, 7, 7)) - 50, kind="int16", SmallestImagePixelValue=0)
    for file in (tmp_path / "series").iterdir():
        data = pydicom.dcmread(file)
        data[0x00280106].VR = "SS"
        data.save_as(file)
    _, _, after = export(tmp_path, scan, np.full(HOLE.sum(), -2000))
    assert {new.SmallestImagePixelValue for new in after[2:4]} == {-2000}
    assert {new[0x00280106].VR for new in after} == {"SS"}


@pytest.mark.parametrize("how", ["flipped", "turned"])
def test_a_scan_with_its_axes_in_another_order_gives_the_same_series(tmp_path, how):
    """Slicer turns the slices of some series."""
    scan = make(tmp_path)
    filled, _, _ = export(tmp_path, scan)
    change = {
        "flipped": lambda image: sitk.Flip(image, [True, False, True]),
        "turned": lambda image: sitk.PermuteAxes(image, [2, 0, 1]),
    }[how]
    files = series_files(tmp_path / "series")
    export_series(files, change(scan), change(filled), tmp_path / "again")
    first, second = (sitk.GetArrayFromImage(read_image(tmp_path / name)) for name in ("out", "again"))
    np.testing.assert_array_equal(first, second)
    assert (first[HOLE] != sitk.GetArrayFromImage(scan)[HOLE]).mean() > 0.8


def resave(folder, change):
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        changed = change(data)
        (changed if isinstance(changed, Dataset) else data).save_as(file)


def implicit(data):
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data.is_implicit_VR = True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", [implicit, lambda data: data.compress(RLELossless)], ids=["implicit", "RLE"])
def test_other_transfer_syntaxes_give_the_same_pixels(tmp_path, change):
    make(tmp_path)
    before = {file.name: pydicom.dcmread(file) for file in (tmp_path / "series").iterdir()}
    resave(tmp_path / "series", change)
    uids = {pydicom.dcmread(file).SOPInstanceUID for file in (tmp_path / "series").iterdir()}
    scan = read_image(tmp_path / "series")
    _, _, after = export(tmp_path, scan)
    for plane, old, new in zip(HOLE, sorted(before.values(), key=lambda d: d.InstanceNumber), after, strict=True):
        assert not new.file_meta.TransferSyntaxUID.is_encapsulated
        np.testing.assert_array_equal(new.pixel_array[~plane], old.pixel_array[~plane])
    assert {new.SourceImageSequence[0].ReferencedSOPInstanceUID for new in after} == uids


def multi_frame(data):
    data.NumberOfFrames = 2


def colour(data):
    data.PhotometricInterpretation = "RGB"


def unknown_compression(data):
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    data.PixelData = pydicom.encaps.encapsulate([b"no picture"])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True


def big_endian(data):
    swapped = Dataset()
    swapped.update({element.tag: element for element in data})
    swapped.file_meta, swapped.preamble = data.file_meta, bytes(128)
    swapped.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    swapped.is_little_endian, swapped.is_implicit_VR = False, False
    return swapped


def elsewhere(data):
    data.ImagePositionPatient = [1000, 0, 0]


def other_values(data):
    data.PixelData = data.PixelData[::-1]


def other_series(data):
    if data.InstanceNumber == 2:
        data.SeriesInstanceUID = "1.2.3"


REFUSED = {
    multi_frame: r"is a multi-frame \(enhanced\) file: convert",
    colour: "is not of plain grey levels",
    unknown_compression: r"is compressed \(JPEG 2000.*pip install pylibjpeg",
    big_endian: "big endian",
    elsewhere: "lie elsewhere than the scan",
    other_values: "hold other values than the scan",
    other_series: "are of several series",
    lambda data: data.pop("PixelSpacing"): "has a damaged or incomplete file",
    lambda data: setattr(data, "BitsAllocated", 32): r"in an unusual way \(32 bits\)",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("change", "said"), REFUSED.items(), ids=map(str, range(len(REFUSED))))
def test_files_that_cannot_be_copied_are_refused_and_no_folder_is_made(tmp_path, change, said):
    scan = make(tmp_path)
    files = series_files(tmp_path / "series")
    resave(tmp_path / "series", change)
    with pytest.raises(InputError, match=said) as refusal:
        export_series(files, scan, scan, tmp_path / "out")
    assert str(refusal.value).count(". ") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_a_part_of_the_files_is_refused(tmp_path):
    scan = make(tmp_path)
    with pytest.raises(InputError, match="hold a part of the scan only"):
        export_series(series_files(tmp_path / "series")[1:], scan, scan, tmp_path / "out")


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failed_export_leaves_no_folder(tmp_path, monkeypatch, failure):
    scan = make(tmp_path)
    real, written = Dataset.save_as, []

    def fail(self, *arguments, **options):
        if len(written) == 2:
            raise failure
        written.append(real(self, *arguments, **options))

    monkeypatch.setattr(Dataset, "save_as", fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else InputError
    with pytest.raises(expected, match=r"^$|^'out' could not be written: free disk space"):
        export_series(series_files(tmp_path / "series"), scan, scan, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_a_folder_with_files_is_never_touched_and_an_empty_one_is_used(tmp_path):
    scan, files = make(tmp_path), series_files(tmp_path / "series")
    out = tmp_path / "out"
    out.mkdir()
    export_series(files, scan, scan, out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert len(before) == 6
    with pytest.raises(InputError, match=r"^'out' exists already: give the name of a new folder\.$"):
        export_series(files, scan, scan, out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(InputError, match="does not exist: choose or create one"):
        export_series(files, scan, scan, tmp_path / "nowhere" / "out")


def test_each_export_has_its_own_identity(tmp_path):
    scan = make(tmp_path)
    identities = []
    for name in ("a", "b"):
        export_series(series_files(tmp_path / "series"), scan, scan, tmp_path / name)
        data = [pydicom.dcmread(file) for file in (tmp_path / name).iterdir()]
        identities += [data[0].SeriesInstanceUID, *(each.SOPInstanceUID for each in data)]
    assert len(set(identities)) == 14


def test_without_pydicom_the_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    scan, files = make(tmp_path), series_files(tmp_path / "series")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match=r"`pip install pydicom`, or choose an output file such as filled.nii.gz"):
        export_series(files, scan, scan, tmp_path / "out")


def test_of_several_series_one_is_chosen_by_its_uid(tmp_path):
    first, second = random_array("int16"), random_array("int16", seed=1)
    write_dicom(volume(first), tmp_path / "a", SeriesDescription="MPRAGE")
    write_dicom(volume(second), tmp_path / "b", SeriesDescription="FLAIR")
    for file in (tmp_path / "b").iterdir():
        os.replace(file, tmp_path / "a" / f"b{file.name}")
    uids = {pydicom.dcmread(file).SeriesInstanceUID for file in (tmp_path / "a").iterdir()}
    with pytest.raises(InputError, match=r"^The folder 'a' holds 2 DICOM series: choose one by its UID") as refusal:
        read_image(tmp_path / "a")
    assert all(uid in str(refusal.value) for uid in uids)
    assert "(MPRAGE, 6 files)" in str(refusal.value)
    assert "(FLAIR, 6 files)" in str(refusal.value)
    arrays = [sitk.GetArrayFromImage(read_image(tmp_path / "a", uid)) for uid in sorted(uids)]
    assert sorted(array.tobytes() for array in arrays) == sorted(array.tobytes() for array in (first, second))
    with pytest.raises(InputError, match=r"holds no DICOM series 1\.2\.3: choose one of "):
        read_image(tmp_path / "a", "1.2.3")
    with pytest.raises(InputError, match="is no folder of DICOM files: drop the series UID"):
        read_image(next((tmp_path / "a").iterdir()), "1.2.3")
