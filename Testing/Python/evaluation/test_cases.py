"""Cases depend only on what they should, and lesions lie in the same place of another brain."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from brains import SHAPE, SPACING
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.holes.cases import draw_hole
from MedInpaintLib.evaluation.holes.lesions import Lesions, read_lesions, scan_to_scan
from MedInpaintLib.space.alignment import Alignment
from MedInpaintLib.volumes.image import like
from scipy import ndimage


def affine(seed):
    rng = np.random.default_rng(seed)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((np.eye(3) + 0.1 * rng.standard_normal((3, 3))).ravel().tolist())
    transform.SetTranslation((5 * rng.standard_normal(3)).tolist())
    return transform


def test_a_point_goes_from_scan_to_scan_through_the_template():
    here, there = (Alignment(affine(seed), np.ones((1, 1, 1), bool), 1.0, True) for seed in (1, 2))
    for point in ((0.0, 0.0, 0.0), (30.0, -20.0, 10.0)):
        moved = scan_to_scan(here, there).TransformPoint(here.transform.TransformPoint(point))
        assert moved == pytest.approx(there.transform.TransformPoint(point), abs=1e-9)


def test_a_lesion_lies_at_the_same_place_of_the_brain_in_another_scan(data, subject, tmp_path):
    place = np.array([12.0, -8.0, 10.0])  # mm, in the template
    other = Alignment(affine(3), np.ones(SHAPE, bool), 1.0, True)
    scan = data.template.image
    points = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"))[::-1] * SPACING
    points += np.reshape(scan.GetOrigin(), (3, 1, 1, 1))
    centre = np.reshape(other.transform.TransformPoint(place), (3, 1, 1, 1))
    sitk.WriteImage(
        like(scan, (np.linalg.norm(points - centre, axis=0) < 12).astype(np.uint8)), str(tmp_path / "p1_mask.nii.gz")
    )
    carried = Lesions((tmp_path / "p1_mask.nii.gz",), scan, other).on(0, subject)
    z, y, x = ndimage.center_of_mass(carried)
    found = subject.scan.TransformContinuousIndexToPhysicalPoint((x, y, z))
    assert found == pytest.approx(subject.alignment.transform.TransformPoint(place), abs=0.5)


def test_lesions_clipped_to_nothing_are_refused(data, subject, tmp_path):
    corner = np.zeros(SHAPE, np.uint8)
    corner[:2, :2, :2] = 1
    sitk.WriteImage(like(data.template.image, corner), str(tmp_path / "p1_mask.nii.gz"))
    away = Lesions((tmp_path / "p1_mask.nii.gz",), data.template.image, subject.alignment)
    with pytest.raises(InputError, match="misses the brain"):
        away.on(0, subject)


def test_the_lesion_scan_is_aligned_without_its_own_lesions(data, scan_file, tmp_path):
    scan = sitk.ReadImage(str(scan_file))
    black = np.zeros(SHAPE, np.uint8)
    black[14:22, 16:26, 8:16] = 1
    for name in ("p1_mask", "p2_mask"):
        sitk.WriteImage(like(scan, black), str(tmp_path / f"{name}.nii.gz"))
    qualities = []
    for factor in (1, 5):
        array = sitk.GetArrayFromImage(scan)
        array[black > 0] *= factor
        sitk.WriteImage(like(scan, array), str(tmp_path / "p1_T1.nii.gz"))
        qualities += [
            read_lesions([tmp_path / mask], tmp_path / "p1_T1.nii.gz", data.template).alignment.quality
            for mask in ("p1_mask.nii.gz", "p2_mask.nii.gz")
        ]
    assert abs(qualities[0] - qualities[2]) < abs(qualities[1] - qualities[3])


def test_a_hole_depends_only_on_its_kind_its_index_the_scans_name_and_the_seed(subject):
    def drawn(kind="ellipsoid8", index=1, seed=3, name=subject.name):
        return draw_hole(kind, index, replace(subject, name=name), {}, subject.brain, seed).voxels

    assert np.array_equal(drawn(), drawn())
    for other in ({"index": 2}, {"seed": 4}, {"kind": "ellipsoid9"}, {"name": "sub-6"}):
        assert not np.array_equal(drawn(), drawn(**other))


def test_each_lesion_mask_is_used_once_before_any_is_used_again(subject):
    paths = tuple(SimpleNamespace(name=f"p{n}_mask.nii.gz") for n in range(5))
    lesions = SimpleNamespace(masks=paths, on=lambda index, subject: np.ones((1, 1, 1), bool))
    shapes = [
        draw_hole("lesions", index, subject, {"lesions": lesions}, subject.brain, seed=0).shape for index in range(10)
    ]
    assert len(set(shapes[:5])) == 5
    assert shapes[5:] == shapes[:5]
