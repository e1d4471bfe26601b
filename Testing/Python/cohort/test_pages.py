"""The pages and pictures: what they show, that they can be sent alone, and that nothing in them is run."""

import json
import re
from io import BytesIO

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_stub import QUICK, add_subject, engine, fill_one, lesion, make_dataset, scan
from MedInpaintLib.cohort.derivatives import start_dataset, write_json
from MedInpaintLib.cohort.fill import Job, fill
from MedInpaintLib.cohort.find import Request, find_scans
from MedInpaintLib.cohort.report import pictures
from MedInpaintLib.cohort.report.group import write_group
from MedInpaintLib.cohort.report.methods import describe
from MedInpaintLib.cohort.report.participant import write_page
from MedInpaintLib.settings import Settings
from PIL import Image


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Three filled scans, the second with a poor alignment, the third with warnings; and one that failed."""
    folder = tmp_path_factory.mktemp("pages")
    dataset, output = make_dataset(folder / "data"), folder / "out"
    for label in ("good", "poor", "warned"):
        add_subject(dataset, f"sub-{label}")
    start_dataset(output, {"raw": dataset})
    for found in find_scans(Request(dataset, output)):

        def changed(images, masks, settings, who=found.participant):
            (result,) = engine(images, masks, settings)
            result.report["alignment"]["poor"] = who == "poor"
            result.report["warnings"] = ["<b>One</b> & two."] if who == "warned" else []
            return [result]

        assert fill(Job(found, output, Settings(device="cpu"), "mark", True), changed).problem == ""
    failure = {"participant": "failed", "session": None, "message": "<script>alert(1)</script>.", "details": "a < b"}
    (output / "logs" / "failures").mkdir(parents=True)
    write_json(output / "logs" / "failures" / "sub-failed_T1w.json", failure)
    for label in ("good", "poor", "warned", "failed"):
        write_page(output, label)
    assert write_group(output) == 1
    return output


def page(output, name):
    return (output / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("label", ["good", "warned", "failed"])
def test_the_page_of_a_participant_needs_no_other_file(output, label):
    html = page(output, f"sub-{label}.html")
    for target in re.findall(r"(?:src|href)=\"([^\"]+)\"|url\(([^)]+)\)", html):
        assert "".join(target).startswith(("data:image/png;base64,", "#"))


def test_a_page_shows_each_lesion_with_its_mask_its_flicker_and_its_uncertainty(output):
    html = page(output, "sub-good.html")
    assert html.count('class="flicker') == html.count("<h3>Lesion") == 1
    assert "with the uncertainty: black 0 to yellow" in html
    assert "contrast curve" in html
    assert "Methods, to copy" in html


def test_text_from_outside_is_shown_and_not_run(output):
    for name in ("sub-failed.html", "group_report.html"):
        assert "&lt;script&gt;alert(1)" in page(output, name)
        assert "<script" not in page(output, name)
    assert "&lt;b&gt;One&lt;/b&gt; &amp; two." in page(output, "sub-warned.html")


def test_the_group_starts_with_the_scans_that_need_a_look(output):
    links = re.findall(r'<td><a href="([^"]+)"', page(output, "group_report.html"))
    assert links == [f"sub-{label}.html" for label in ("failed", "poor", "warned", "good")]
    for target in re.findall(r'(?:src|href)="([^"]+)"', page(output, "group_report.html")):
        assert target.startswith("data:") or (output / target).is_file()


def test_every_column_of_the_table_is_described(output):
    columns = page(output, "group_lesions.tsv").splitlines()[0].split("\t")
    assert list(json.loads(page(output, "group_lesions.json"))) == columns


def test_planes_show_the_left_of_the_patient_on_the_right_and_up_is_up():
    values = np.zeros((40, 40, 40), np.float32)
    values[20, 20, 30] = 1  # 10 mm to the left
    values[30, 20, 20] = 2  # 10 mm up
    values[20, 30, 20] = 3  # 10 mm to the back
    image = sitk.GetImageFromArray(values)
    for direction in (np.eye(3), np.diag([1, 1, -1])):
        image.SetDirection(direction.ravel().tolist())
        middle = image.TransformIndexToPhysicalPoint((20, 20, 20))
        axial, coronal, sagittal = pictures.planes(image, middle, (41.0, 1.0), order=0)
        up = -10 if direction[2, 2] > 0 else 10
        assert (axial[20, 30], axial[30, 20]) == (1, 3)
        assert (coronal[20, 30], coronal[20 + up, 20]) == (1, 2)
        assert (sagittal[20, 30], sagittal[20 + up, 20]) == (3, 2)


def test_an_outline_lies_around_the_mask_and_is_transparent_elsewhere():
    mask = np.zeros((9, 9))
    mask[3:6, 3:6] = 1
    pixels = np.array(Image.open(BytesIO(pictures.outline([mask]))))
    drawn = pixels[..., 3] > 0
    assert not (drawn & (mask > 0)).any()
    assert drawn.sum() == 12
    assert tuple(pixels[drawn][0][:3]) == pictures.OUTLINE


def test_the_methods_name_what_differs_from_the_defaults():
    text = {
        s: describe(fill_one(scan(), lesion(), s).report).text for s in (Settings(), QUICK, Settings(grow=1.0, seed=7))
    }
    default, quick, grown = text.values()
    assert default.endswith("All settings were the defaults.")
    assert "kriging" in default
    assert "kriging" not in quick
    assert quick.endswith("Settings other than the defaults: residual = False.")
    assert "enlarged by 1 mm" in grown
    assert grown.endswith("grow = 1.0, seed = 7.")
