"""The shipped inference, from files to files, with a network whose output is known.

The network compares the normalised grey value of a neighbouring voxel with four levels. These tests are about
positions, which training could only blur.
"""

from __future__ import annotations

import json
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy.spatial.transform import Rotation

from scripts import BUNDLE_ROOT
from scripts.cine import STRUCTURES
from scripts.core.errors import CineError

GREY = {0: 200, 1: 100, 2: 300, 3: 400}  # label -> voxels; neighbours in space are neighbours in grey
CENTRE = np.array([12.0, -30.0, 45.0])  # mm
ORDERS = list(product(permutations(range(3)), product([1, -1], repeat=3)))


def heart(points: np.ndarray) -> np.ndarray:
    """Labels at points ... x 3 (mm, RAS): an LV in its muscle, an RV next to it; together they have no symmetry."""
    x, y, z = np.moveaxis(points - CENTRE, -1, 0)
    to_lv = np.sqrt((x / 15) ** 2 + (y / 15) ** 2 + (z / 24) ** 2)
    to_myo = np.sqrt((x / 27) ** 2 + (y / 27) ** 2 + (z / 36) ** 2)
    to_rv = np.sqrt(((x - 26) / 18) ** 2 + ((y + 6) / 26) ** 2 + ((z - 5) / 24) ** 2)
    return np.select([to_lv < 1, to_myo < 1, to_rv < 1], [3, 2, 1], 0)


def points_of(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    return np.stack(np.indices(shape), axis=-1) @ affine[:3, :3].T + affine[:3, 3]


def stack(rotation: np.ndarray, shape=(52, 48, 17), spacing=(2.0, 1.8, 5.0)) -> np.ndarray:
    """The affine of a stack around the heart."""
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


SHAPE = (52, 48, 17)
AXIAL = stack(np.diag([-1.0, -1, 1]))
LABELS = heart(points_of(SHAPE, AXIAL))


def image_of(labels: np.ndarray) -> np.ndarray:
    """Grey values by label, with noise: without it the image would be a label map."""
    grain = np.random.default_rng(0).integers(-9, 10, labels.shape)
    return (np.vectorize(GREY.get)(labels) + grain).astype(np.int16)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray, unit: str = "mm") -> Path:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, path)
    return path


def network(offset: int) -> torch.nn.Module:
    """Logits of the level nearest to the voxel ``offset`` steps along each working axis.

    With an offset the mask moves by a voxel along every axis, so that a wrong axis or direction is detected.
    """
    voxels = image_of(LABELS).astype(np.float64)
    levels = torch.tensor([(GREY[label] - voxels.mean()) / voxels.std() for label in range(4)], dtype=torch.float32)
    convolution = torch.nn.Conv3d(1, 4, 3, padding=1)
    torch.nn.init.zeros_(convolution.weight)
    with torch.no_grad():  # the largest of 2 c x - c^2 is the c nearest to x
        convolution.weight[:, 0, 1 + offset, 1 + offset, 1 + offset] = 2 * levels
        convolution.bias.copy_(-(levels**2))
    return convolution


def infer(inputs: list[Path], output_dir: Path, offset: int = 0) -> None:
    parser = ConfigParser(ConfigParser.load_config_file(str(BUNDLE_ROOT / "configs" / "inference.json")))
    parser["input"], parser["output_dir"] = [str(path) for path in inputs], str(output_dir)
    parser["network_def"], parser["device"] = network(offset), torch.device("cpu")
    parser["handlers"] = parser["handlers"][2:]  # no weights to load and no progress bar
    del parser["writer#writers"]["_overlay.png"]
    parser.get_parsed_content("evaluator").run()


def dice(reference: np.ndarray, other: np.ndarray) -> float:
    """The lowest Dice of the three structures."""
    pairs = [(reference == label, other == label) for label in STRUCTURES.values()]
    assert all(one.any() and two.any() for one, two in pairs)
    return min(2 * np.sum(one & two) / (np.sum(one) + np.sum(two)) for one, two in pairs)


def at(mask: Path, points: np.ndarray, turn: np.ndarray | None = None) -> np.ndarray:
    """Labels of a mask at points (mm), by its own header as nibabel reads it; 0 outside."""
    image = nib.load(mask)
    affine = image.affine if turn is None else turn @ image.affine
    index = np.rint((points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    inside = np.all((index >= 0) & (index < image.shape), axis=-1)
    labels = np.asarray(image.dataobj)[tuple(np.moveaxis(np.where(inside[..., None], index, 0), -1, 0))]
    return np.where(inside, labels, 0)


def volumes(folder: Path, name: str) -> dict[str, list[float]]:
    return json.loads((folder / f"{name}_function.json").read_text())["volumes_ml"]


def test_the_same_heart_in_all_48_signed_axis_orders(tmp_path):
    inputs = []
    for number, (order, signs) in enumerate(ORDERS):
        change = np.zeros((4, 4))
        change[3, 3] = 1
        for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
            change[old, new], change[old, 3] = sign, 0 if sign > 0 else SHAPE[old] - 1
        voxels = image_of(LABELS).transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
        inputs.append(save(tmp_path / f"{number}.nii", voxels, AXIAL @ change))
    infer(inputs, tmp_path / "out", offset=1)
    points = points_of(SHAPE, AXIAL)
    masks = [at(tmp_path / "out" / f"{number}_seg.nii.gz", points) for number in range(48)]
    moved = np.zeros_like(LABELS)
    moved[:-1, :-1, :-1] = LABELS[1:, 1:, 1:]
    assert dice(moved, masks[0]) > 0.9  # the expected result, resampled in plane
    assert min(dice(masks[0], mask) for mask in masks) >= 0.99


def test_an_oblique_patient(tmp_path):
    """Stack and heart are rotated together, like short-axis planes."""
    inputs = [save(tmp_path / "straight.nii", image_of(LABELS), AXIAL)]
    turns = []
    for number, angles in enumerate(([40, 0, 0], [25, -35, 60], [-50, 30, -100])):
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        turns.append(turn)
        inputs.append(save(tmp_path / f"{number}.nii", image_of(LABELS), turn @ AXIAL))
    infer(inputs, tmp_path / "out")
    points = points_of(SHAPE, AXIAL)
    straight = at(tmp_path / "out" / "straight_seg.nii.gz", points)
    for number, turn in enumerate(turns):
        lying = at(tmp_path / "out" / f"{number}_seg.nii.gz", points, np.linalg.inv(turn))
        assert dice(straight, lying) >= 0.95


def test_a_stack_oblique_to_the_heart(tmp_path):
    """The same heart in space, in stacks that are rotated within their plane and tilted. Slices are thin, since tilted
    thick slices would sample different tissue."""
    shape, inputs = (64, 60, 48), []
    for number, angles in enumerate(([0, 0, 0], [0, 0, 30], [15, 0, 0], [10, -10, 50])):
        turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([-1.0, -1, 1])
        affine = stack(turn, shape, (1.4, 1.5, 1.6))
        inputs.append(save(tmp_path / f"{number}.nii", image_of(heart(points_of(shape, affine))), affine))
    infer(inputs, tmp_path / "out")
    points = CENTRE + np.stack(np.meshgrid(*[np.arange(-40, 41, 2.0)] * 3, indexing="ij"), axis=-1)
    masks = [at(tmp_path / "out" / f"{number}_seg.nii.gz", points) for number in range(4)]
    assert min(dice(masks[0], mask) for mask in masks) >= 0.95


def test_metres_and_micrometres_give_the_same_millilitres(tmp_path):
    inputs = [
        save(tmp_path / f"{unit}.nii", image_of(LABELS), np.diag([factor] * 3 + [1]) @ AXIAL, unit)
        for unit, factor in (("mm", 1.0), ("meter", 1e-3), ("micron", 1e3))
    ]
    infer(inputs, tmp_path / "out")
    expected = volumes(tmp_path / "out", "mm")
    mask = np.asarray(nib.load(tmp_path / "out" / "mm_seg.nii.gz").dataobj)
    assert expected["LV"] == pytest.approx([np.sum(mask == 3) * 2.0 * 1.8 * 5.0 / 1000])
    for unit in ("meter", "micron"):
        found = volumes(tmp_path / "out", unit)
        assert all(found[name] == pytest.approx(expected[name], rel=1e-6) for name in STRUCTURES)
        assert np.array_equal(mask, np.asarray(nib.load(tmp_path / "out" / f"{unit}_seg.nii.gz").dataobj))


def test_only_shear_and_contradictory_geometry_are_refused_and_named_at_the_end(tmp_path, caplog):
    """Each bad file separately, then all of them together with good ones, which are processed."""
    good = [save(tmp_path / f"{name}.nii.gz", image_of(LABELS), AXIAL) for name in ("a", "z")]
    bad = []
    for name, fields in (
        ("m", {"srow_x": AXIAL[0] + [0, 0.5, 0, 0]}),
        ("n", {"sform_code": 0, "qform_code": 1, "quatern_b": 0.9, "quatern_c": 0.9}),  # longer than 1
    ):
        bad.append(save(tmp_path / f"{name}.nii", image_of(LABELS), AXIAL))
        content = bad[-1].read_bytes()
        header = nib.Nifti1Header(content[:348])
        for field, value in fields.items():
            header[field] = value
        bad[-1].write_bytes(header.binaryblock + content[348:])
    (tmp_path / "o.nii.gz").write_bytes(good[0].read_bytes()[:-200])
    bad.append(tmp_path / "o.nii.gz")
    reasons = ("sheared axes", "a qform that is not a rotation", "a file that cannot be read")
    for path, reason in zip(bad, reasons, strict=True):
        with pytest.raises(CineError, match=f"^{path}: found {reason}"):
            infer([path], tmp_path / "single")
    assert list((tmp_path / "single").iterdir()) == []
    caplog.clear()
    with pytest.raises(CineError, match=r"found 3 of 5 unusable files.* The other 2 are done") as caught:
        infer([good[0], *bad, good[1]], tmp_path / "out")
    assert all(f"- {path}: found {reason}" in str(caught.value) for path, reason in zip(bad, reasons, strict=True))
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"{name}_{end}" for name in "az" for end in ("function.json", "seg.nii.gz")}
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("scripts")]
    assert any("input 2 of 5 is refused" in line for line in logged)
    assert not any("m.nii" in line for line in logged)  # a name may be a patient's


def test_fragments_and_blank_frames_are_flagged(tmp_path):
    frames = [LABELS.copy() for _ in range(3)]
    frames[1][2:14, 2:14, 2:6] = 3  # a second LV, cleared from the mask
    voxels = np.stack([image_of(frame) for frame in frames], axis=-1)
    voxels[..., 2] = 0
    infer([save(tmp_path / "cine.nii", voxels, AXIAL)], tmp_path / "out")
    function = json.loads((tmp_path / "out" / "cine_function.json").read_text())
    assert {"flag": "fragments", "structure": "LV", "frame": 2} in function["flags"]
    assert {"flag": "no contrast", "frame": 3} in function["flags"]
    assert 3 not in (function["ed_frame"], function["es_frame"])
    mask = np.asarray(nib.load(tmp_path / "out" / "cine_seg.nii.gz").dataobj)[..., 1]
    assert not np.any(mask[2:14, 2:14, 2:6] == 3)


def test_label_maps_next_to_images_are_refused_and_the_images_processed(tmp_path):
    for name in "12":
        (tmp_path / "in" / name).mkdir(parents=True)
    save(tmp_path / "in" / "1" / "sa.nii", image_of(LABELS), AXIAL)
    save(tmp_path / "in" / "2" / "sa.nii", image_of(LABELS), AXIAL)
    save(tmp_path / "in" / "2" / "label_sa.nii", LABELS.astype(np.int16), AXIAL)
    with pytest.raises(
        CineError, match=r"found 1 of 3 unusable files.*(?s:.*)label_sa.nii: found 4 different values, all whole"
    ):
        infer([tmp_path / "in"], tmp_path / "out")
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*_seg.nii.gz"))
    assert written == ["1/sa_seg.nii.gz", "2/sa_seg.nii.gz"]


def test_doubts_of_header_and_image_are_flagged_logged_and_values_withheld(tmp_path, caplog):
    cine = np.stack([image_of(LABELS) + frame for frame in range(4)], axis=-1)
    inputs = {
        "axes doubtful": (np.swapaxes(cine, 2, 3), AXIAL),
        "spacing doubtful": (cine, np.eye(4)),
        "contrast inverted": (600 - np.pad(cine - 200, ((20, 20), (20, 20), (0, 0), (0, 0))) * 2 // 3, AXIAL),
    }
    infer([save(tmp_path / f"{name}.nii", *given) for name, given in inputs.items()], tmp_path / "out")
    for name in inputs:
        function = json.loads((tmp_path / "out" / f"{name}_function.json").read_text())
        assert {"flag": name} in function["flags"] and f"{name}: " in caplog.text
        assert {*function["LV"].values(), *function["RV"].values(), function["myocardial_mass_g"]} == {None}
        assert (function["volumes_ml"]["LV"][0] is None) is (name != "contrast inverted")


def test_a_folder_of_dicom_gives_the_masks_of_the_nifti_that_was_cut_into_it(tmp_path):
    import dicom_exam

    cine = np.stack([image_of(LABELS), image_of(LABELS[::-1])], axis=-1).astype(np.uint16)
    folder = dicom_exam.write(dicom_exam.exam(cine, AXIAL), tmp_path / "dicom", by_series=True)
    infer([folder, save(tmp_path / "nifti.nii", cine, AXIAL)], tmp_path / "out")
    from_dicom, from_nifti = (nib.load(tmp_path / "out" / f"{name}_seg.nii.gz") for name in ("dicom", "nifti"))
    assert np.array_equal(np.asarray(from_dicom.dataobj), np.asarray(from_nifti.dataobj))
    assert dice(LABELS, np.asarray(from_dicom.dataobj)[..., 0]) > 0.9
    assert np.allclose(from_dicom.affine, AXIAL, atol=1e-5)
    assert volumes(tmp_path / "out", "dicom") == volumes(tmp_path / "out", "nifti")
    other = dicom_exam.exam(cine, AXIAL)[:-1]
    with pytest.raises(CineError, match=r"found 1 of 2 unusable files.*(?s:.*)1 frames of slice 17 of 17"):
        infer([dicom_exam.write(other, tmp_path / "bad"), folder], tmp_path / "others")
    assert (tmp_path / "others" / "dicom_seg.nii.gz").exists()
