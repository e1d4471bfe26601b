"""Which scan is filled with which mask, and what is said about those that have none."""

import json

import pytest
from cohort_stub import ABOUT, add_mask, add_scan, add_subject, make_dataset
from MedInpaintLib.cohort.derivatives import start_dataset
from MedInpaintLib.cohort.find import Request, dataset_folders, find_scans, read_filters
from MedInpaintLib.cohort.scans import Results
from MedInpaintLib.errors import InputError


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "data")


def find(dataset, **options):
    return find_scans(Request(dataset, dataset.parent / "out", **options))


def only(scans):
    (scan,) = scans
    return scan


@pytest.mark.parametrize("end", ["space-orig_label-lesion_mask", "label-L_mask", "space-T1w_label-tumor_desc-x_mask"])
def test_a_mask_in_the_derivatives_is_found_by_its_label(dataset, end):
    image, mask = add_scan(dataset, "sub-01"), add_mask(dataset, "sub-01", end)
    scan = only(find(dataset))
    assert (scan.image, scan.mask, scan.problem) == (image, mask, "")
    assert scan.sources == ("bids:raw:sub-01/anat/sub-01_T1w.nii.gz", f"bids:manual:sub-01/anat/sub-01_{end}.nii.gz")


def test_a_roi_in_the_dataset_itself_is_a_mask(dataset):
    add_scan(dataset, "sub-01_ses-2")
    mask = add_mask(dataset, "sub-01_ses-2", "label-lesion_roi", pipeline=None)
    assert only(find(dataset)).mask == mask


def test_masks_in_another_folder_are_found_and_then_no_others_count(dataset, tmp_path):
    add_subject(dataset, "sub-01")
    other = make_dataset(tmp_path / "other")
    mask = add_mask(other, "sub-01", pipeline=None)
    scan = only(find(dataset, derivatives={"elsewhere": other}))
    assert scan.mask == mask
    assert scan.sources[1] == "bids:elsewhere:sub-01/anat/sub-01_space-orig_label-lesion_mask.nii.gz"


def test_each_run_has_its_own_mask_whatever_zeros_its_number_has(dataset):
    for run in ("1", "2"):
        add_scan(dataset, f"sub-01_run-0{run}")
        add_mask(dataset, f"sub-01_run-{run}")
    assert [scan.mask.name[:12] for scan in find(dataset)] == ["sub-01_run-1", "sub-01_run-2"]


def test_one_mask_serves_all_sessions_if_asked(dataset):
    for session in ("a", "b"):
        add_scan(dataset, f"sub-01_ses-{session}")
    mask = add_mask(dataset, "sub-01_ses-a")
    assert [scan.mask for scan in find(dataset, one_mask=True)] == [mask, mask]
    assert [bool(scan.problem) for scan in find(dataset)] == [False, True]


@pytest.mark.parametrize(
    ("ends", "problem"),
    [
        ([], "There is no mask with label lesion or L or tumor: add one, or leave this out."),
        (["label-brain_mask"], "There is no mask with label lesion or L or tumor: add one, or leave this out."),
        (
            ["space-MNI152_label-lesion_mask"],
            "The mask lies in the space MNI152: give one in the space of the scan (space-orig).",
        ),
        (
            ["label-lesion_mask", "label-L_mask"],
            "There are 2 masks (sub-01_label-L_mask.nii.gz, sub-01_label-lesion_mask.nii.gz): choose one with "
            "--bids-filter-file.",
        ),
    ],
)
def test_no_mask_two_masks_and_masks_of_another_space_are_one_sentence_and_the_others_go_on(dataset, ends, problem):
    add_scan(dataset, "sub-01")
    for end in ends:
        add_mask(dataset, "sub-01", end)
    add_subject(dataset, "sub-02")
    first, second = find(dataset)
    assert first.problem == problem
    assert not first.image
    assert second.image
    assert not second.problem


def test_a_session_without_a_scan_is_reported(dataset):
    add_subject(dataset, "sub-01_ses-1")
    add_scan(dataset, "sub-01_ses-2", "FLAIR")
    good, bad = find(dataset)
    assert not good.problem
    assert (bad.participant, bad.session, bad.name) == ("01", "2", "sub-01_ses-2_T1w")
    assert bad.problem == "There is no T1w scan: check the dataset, or leave this one out."


def test_another_contrast_can_be_filled(dataset):
    add_subject(dataset, "sub-01")
    flair = add_scan(dataset, "sub-01", "FLAIR")
    scan = only(find(dataset, suffix="FLAIR"))
    assert scan.image == flair
    results = {Results(dataset, s).mask for s in (scan, only(find(dataset)))}
    assert len(results) == 2  # the masks of two contrasts do not overwrite each other


def test_names_with_blanks_and_umlauts_are_found(tmp_path):
    dataset = make_dataset(tmp_path / "große Studie ä")
    add_subject(dataset, "sub-Jörg Müller")
    scan = only(find(dataset))
    assert scan.participant == "Jörg Müller"
    assert scan.image.is_file()
    assert scan.mask.is_file()


def test_labels_choose_participants_and_sessions_with_or_without_their_prefix(dataset):
    for stem in ("sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a"):
        add_subject(dataset, stem)
    assert [s.stem for s in find(dataset, participants=["sub-01"], sessions=["b"])] == ["sub-01_ses-b"]
    assert [s.stem for s in find(dataset, sessions=["ses-a"])] == ["sub-01_ses-a", "sub-02_ses-a"]
    with pytest.raises(InputError, match="no participant 7: check the labels"):
        find(dataset, participants=["7"])


def test_a_filter_file_chooses_scans_and_masks_by_long_and_short_names(dataset, tmp_path):
    for acquisition in ("fast", "slow"):
        add_scan(dataset, f"sub-01_acq-{acquisition}")
    for rater in ("anna", "bert"):
        add_mask(dataset, "sub-01", f"label-lesion_desc-{rater}_mask")
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"scan": {"acquisition": "slow"}, "mask": {"desc": ["bert"]}}), encoding="utf-8")
    scan = only(find(dataset, filters=read_filters(path)))
    assert scan.image.name == "sub-01_acq-slow_T1w.nii.gz"
    assert scan.mask.name == "sub-01_label-lesion_desc-bert_mask.nii.gz"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "cannot be read as JSON"),
        ('{"bold": {}}', "keys scan and mask alone"),
        ('{"scan": {"colour": "red"}}', "names the entity 'colour', which BIDS does not have"),
    ],
)
def test_a_wrong_filter_file_is_refused(tmp_path, content, problem):
    path = tmp_path / "filter.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        read_filters(path)


def test_the_masks_of_what_was_filled_earlier_are_not_taken_as_lesions(dataset):
    add_subject(dataset, "sub-01")
    start_dataset(dataset / "derivatives" / "medinpaint", {"raw": dataset})
    add_mask(dataset, "sub-01", "space-orig_label-lesion_desc-filled_mask", pipeline="medinpaint")
    assert only(find(dataset)).mask.parts[-4] == "manual"


def test_scans_that_differ_in_desc_alone_would_overwrite_each_other_and_are_refused(dataset):
    for description in ("a", "b"):
        add_scan(dataset, f"sub-01_desc-{description}")
    add_mask(dataset, "sub-01")
    assert "differ in desc alone" in only(find(dataset)).problem


def test_a_folder_without_images_is_no_dataset(dataset):
    with pytest.raises(InputError, match="'data' has no images"):
        find(dataset)


def test_the_links_of_the_results_lead_to_their_sources_and_outlast_a_move(dataset, tmp_path):
    add_subject(dataset, "sub-01")
    output = tmp_path / "out put"
    start_dataset(output, dataset_folders(Request(dataset, output)))
    about = json.loads((output / "dataset_description.json").read_text(encoding="utf-8"))
    assert about["DatasetLinks"] == {"raw": "../data", "manual": "../data/derivatives/manual"}
    assert (about["Authors"], about["License"]) == (ABOUT["Authors"], ABOUT["License"])
    assert about["GeneratedBy"][0]["Name"] == "MedInpaint"


def test_a_folder_that_holds_another_dataset_is_no_output(dataset):
    with pytest.raises(InputError, match="holds a dataset of another kind"):
        start_dataset(dataset, {"raw": dataset})
