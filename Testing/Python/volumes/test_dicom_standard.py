"""A derived series, checked against the DICOM standard: dicom-validator, with highdicom's tables of the MR Image.

The validator's own source is the text of the standard, which it downloads; the tables come with highdicom. They say
which modules an MR image has and which attributes each module requires, but not in which cases: what is required in
some cases only (types 1C and 2C) is allowed here, and not asked for.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import write_dicom
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.error_handler import NullValidationResultHandler
from dicom_validator.validator.iod_validator import IODValidator
from dicom_validator.validator.validation_result import ErrorCode
from MedInpaintLib.volumes.dicom.derived import export_series
from MedInpaintLib.volumes.image import with_voxels
from MedInpaintLib.volumes.read import read_image, series_files
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.uid import MRImageStorage
from synthetic import GEOMETRIES, box, random_array, volume

HOLE = box(slice(2, 4), slice(2, 5), slice(3, 6), (6, 7, 7))
SYNTHETIC_DATA = 0x0008001C  # pydicom does not know its name


def table(name):
    """A table of the standard that comes with highdicom; importing highdicom itself is not needed."""
    folder = Path(find_spec("highdicom").submodule_search_locations[0]) / "_standard"
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def tag(keyword):
    number = SYNTHETIC_DATA if keyword == "SyntheticData" else tag_for_keyword(keyword)
    return None if number is None else f"({number >> 16:04X},{number & 0xFFFF:04X})"


def module(attributes):
    """A module as the validator has it: what is in a sequence hangs below it."""
    found = {}
    for attribute in attributes:
        place = found
        for parent in attribute["path"]:
            place = place.get(tag(parent), {}).setdefault("items", {})
        if tag(attribute["keyword"]):
            place[tag(attribute["keyword"])] = {"name": attribute["keyword"], "type": attribute["type"]}
    return found


@pytest.fixture(scope="session")
def standard():
    modules = table("iod_module_map")[table("sop_class_iod_map")[MRImageStorage]]
    attributes = table("module_attribute_map")
    return DicomInfo(
        dictionary={},
        iods={
            MRImageStorage: {
                "title": "MR Image",
                "modules": {each["key"]: {"ref": each["key"], "use": each["usage"]} for each in modules},
                "group_macros": {},
            }
        },
        modules={each["key"]: module(attributes[each["key"]]) for each in modules},
    )


def faults(dataset, standard):
    """What is wrong with a dataset: (keyword, the validator's name of the fault)."""
    result = IODValidator(dataset, standard, error_handler=NullValidationResultHandler()).validate()
    return {
        (keyword_for_tag(where.tag) or str(where.tag), error.code.name)
        for errors in result.module_errors.values()
        for where, error in errors.items()
        if error.code is not ErrorCode.NoError
    }


@pytest.fixture
def derived(tmp_path):
    """The files of a source and of its derived series."""
    write_dicom(volume(random_array("int16", (6, 7, 7)), GEOMETRIES["oblique"]), tmp_path / "series")
    scan = read_image(tmp_path / "series")
    files = series_files(tmp_path / "series")
    export_series(files, scan, with_voxels(scan, np.full(HOLE.sum(), 5.0), HOLE), tmp_path / "out", "model linear")
    return [[pydicom.dcmread(file) for file in each] for each in (files, series_files(tmp_path / "out"))]


def test_a_derived_series_is_an_mr_image_of_the_standard(derived, standard):
    source, filled = derived
    assert [faults(dataset, standard) for dataset in source] == [set()] * 6
    assert [faults(dataset, standard) for dataset in filled] == [set()] * 6


def test_the_check_finds_what_is_missing_empty_or_foreign(derived, standard):
    _, (dataset, *_) = derived
    del dataset.PatientID, dataset.Modality
    dataset.ImageType = ""
    dataset.SeriesInstanceUID = None
    dataset.NumberOfFrames = 1
    del dataset.SourceImageSequence[0].ReferencedSOPInstanceUID
    dataset.ContributingEquipmentSequence[0].Manufacturer = ""
    assert faults(dataset, standard) == {
        ("PatientID", "TagMissing"),
        ("Modality", "TagMissing"),
        ("ImageType", "TagEmpty"),
        ("SeriesInstanceUID", "TagEmpty"),
        ("NumberOfFrames", "TagUnexpected"),
        ("ReferencedSOPInstanceUID", "TagMissing"),
        ("Manufacturer", "TagEmpty"),
    }
