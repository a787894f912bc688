"""The reader accepts valid files with correct values, and refuses others with one error that gives an action."""

from __future__ import annotations

import gzip
import logging
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImage, LoadImaged

from scripts.cine import header as header_module
from scripts.cine.reader import CineReader, read_header, read_volume
from scripts.core.errors import CineError

SHEAR = {"srow_x": [1.5, 0.5, 0, 0]}


def load(path: Path):
    return LoadImage(reader=CineReader(), ensure_channel_first=True, image_only=True)(path)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_and_byte_order_is_read_right(nifti, dtype, order):
    voxels = np.arange(60).reshape(4, 5, 3).astype(dtype)
    image = load(nifti(voxels, order=order))
    assert image.dtype == torch.float32 and image.shape == (1, 4, 5, 3)
    assert np.array_equal(image[0].numpy(), voxels)


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_both_versions_plain_and_compressed(nifti, kind, name):
    image = load(nifti(name=name, kind=kind))
    assert np.array_equal(image[0].numpy(), np.arange(60).reshape(4, 5, 3))
    assert np.allclose(image.affine, [[-1.5, 0, 0, 7], [0, -1.25, 0, 8], [0, 0, 8, 9], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("shape", "tensor"),
    [
        ((4, 5), (1, 4, 5, 1)),
        ((4, 5, 1), (1, 4, 5, 1)),
        ((4, 5, 3, 1), (1, 4, 5, 3)),
        ((4, 5, 3, 2), (2, 4, 5, 3)),
        ((4, 5, 3, 2, 1), (2, 4, 5, 3)),
        ((4, 5, 3, 1, 2), (2, 4, 5, 3)),
        ((1, 1, 1), (1, 1, 1, 1)),
    ],
)
def test_frames_become_channels_and_missing_axes_are_added(nifti, shape, tensor):
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    path = nifti(voxels)
    image = load(path)
    assert image.shape == tensor
    four = voxels.reshape((*(*shape, 1)[:3], tensor[0]))
    assert np.array_equal(image.numpy(), np.moveaxis(four, -1, 0))
    assert read_header(path).frames == tensor[0]
    assert image.meta["filename_or_obj"] == str(path)


def test_slope_and_intercept_apply(nifti):
    image = load(nifti(np.full((2, 2, 2), 10, np.int16), scl_slope=0.5, scl_inter=-3))
    assert torch.equal(image.as_tensor(), torch.full((1, 2, 2, 2), 2.0))
    unscaled = load(nifti(np.full((2, 2, 2), 10, np.int16), scl_slope=0, scl_inter=5))
    assert torch.equal(unscaled.as_tensor(), torch.full((1, 2, 2, 2), 10.0))


@pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 1e-3), (2, 1), (3, 1e3), (2 + 8, 1)])
def test_units_of_length_are_honoured(nifti, code, factor):
    scaled = {"pixdim": np.array([1, 1.5, 1.25, 8, 30, 0, 0, 0]) * ([1] + [factor] * 3 + [1] * 4), "xyzt_units": code}
    rows = {"srow_x": [-1.5, 0, 0, 7], "srow_y": [0, -1.25, 0, 8], "srow_z": [0, 0, 8, 9]}
    header = read_header(nifti(**scaled, **{key: np.multiply(row, factor) for key, row in rows.items()}))
    assert header.spacing_mm == pytest.approx((1.5, 1.25, 8))
    assert np.allclose(header.affine[:3, 3], [7, 8, 9], rtol=1e-6)


def test_lengths_come_from_pixdim_if_the_sform_contradicts(nifti):
    header = read_header(nifti(srow_x=[-1, 0, 0, 0], srow_y=[0, -1, 0, 0], srow_z=[0, 0, 1, 0]))
    assert np.array_equal(header.affine, np.diag([-1.5, -1.25, 8, 1]))


@pytest.mark.parametrize("dummy", ["pixdim", "affine"])
def test_the_spacing_that_is_not_a_dummy_is_used(nifti, dummy):
    ones = {"srow_x": [-1, 0, 0, 7], "srow_y": [0, -1, 0, 8], "srow_z": [0, 0, 1, 9]}
    header = read_header(nifti(**({"pixdim": np.ones(8)} if dummy == "pixdim" else ones)))
    assert header.spacing_mm == (1.5, 1.25, 8) and header.spacing_doubt == ""
    assert np.array_equal(header.affine, [[-1.5, 0, 0, 7], [0, -1.25, 0, 8], [0, 0, 8, 9], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("fields", "spacing_mm", "doubt"),
    [
        (
            {"pixdim": np.ones(8), "srow_x": [1, 0, 0, 0], "srow_y": [0, 1, 0, 0], "srow_z": [0, 0, 1, 0]},
            1,
            "both give",
        ),
        ({"pixdim": np.ones(8), "sform_code": 0}, 1, "both give"),
        ({"srow_z": [0, 0, 10, 9]}, 8, "pixdim gives 1.5 x 1.25 x 8 and the affine 1.5 x 1.25 x 10"),
        ({"srow_z": [0, 0, 8.05, 9]}, 8, ""),  # rounded
    ],
)
def test_an_unknown_or_contradictory_spacing_is_doubted(nifti, fields, spacing_mm, doubt):
    header = read_header(nifti(**fields))
    assert header.spacing_mm[2] == spacing_mm
    assert doubt in header.spacing_doubt and bool(doubt) == bool(header.spacing_doubt)


def test_the_affine_is_checked_when_it_is_used(nifti):
    with pytest.raises(CineError, match=r"found a voxel spacing of \[1.5, 1.25, 400.0\] mm"):
        read_header(nifti(pixdim=np.ones(8), srow_z=[0, 0, 400, 0]))


def test_a_rotated_qform_is_used_without_an_sform(nifti):
    half = np.sqrt(0.5)  # a quarter turn about z: x -> y
    path = nifti(sform_code=0, qform_code=1, quatern_d=half, qoffset_x=3, pixdim=[0, 1.5, 1.25, 8, 0, 0, 0, 0])
    expected = [[0, -1.25, 0, 3], [1.5, 0, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1]]
    assert np.allclose(read_header(path).affine, expected, atol=1e-6)


def test_without_forms_the_standard_axes_are_used(nifti):
    path = nifti(sform_code=0, qform_code=0)
    assert np.allclose(read_header(path).affine, nib.load(path).affine)
    assert np.allclose(read_header(path).affine[:3, :3], np.diag([-1.5, 1.25, 8]))


def test_rounded_axes_are_repaired(nifti):
    affine = read_header(nifti(srow_x=[-1.5, 0.005, 0, 0])).affine
    assert np.allclose(affine[:3, :3].T @ affine[:3, :3], np.diag([1.5**2, 1.25**2, 64]), atol=1e-12)


def test_patient001_has_its_volume_by_hand(acdc_dir):
    path = acdc_dir / "patient001" / "patient001_frame01_gt.nii.gz"
    raw = nib.load(path)
    by_hand = np.count_nonzero(np.asarray(raw.dataobj) == 3) * np.prod(raw.header.get_zooms()) / 1000
    data = LoadImaged(keys="label", reader=CineReader(), ensure_channel_first=True, image_only=True)({"label": path})
    voxel_ml = abs(np.linalg.det(data["label"].affine[:3, :3].numpy())) / 1000
    assert float((data["label"] == 3).sum()) * voxel_ml == pytest.approx(by_hand, rel=1e-9)
    assert 280 < by_hand < 310  # a dilated heart; the stored affine would give 12 ml


def test_voxels_that_are_not_finite_are_set_to_the_frame_s_minimum(nifti, caplog):
    voxels = np.arange(120, dtype=np.float32).reshape(4, 5, 3, 2)
    voxels[0, 0, 0] = -5, -7
    voxels[1, 1, 1] = np.nan, np.inf
    image = load(nifti(voxels))
    assert image[:, 1, 1, 1].tolist() == [-5, -7]
    assert "frame 2: set 1 voxels that are not finite" in caplog.text


def test_constant_and_empty_frames_pass_and_are_logged(nifti, caplog):
    image = load(nifti(np.zeros((3, 3, 2, 2), np.uint8)))
    assert not image.any()
    assert "frame 2 is constant (0)" in caplog.text


def test_a_constant_frame_with_a_single_nan_passes(nifti, caplog):
    voxels = np.full((3, 3, 2), 7, np.float32)
    voxels[0, 0, 0] = np.nan
    assert torch.equal(load(nifti(voxels)).as_tensor(), torch.full((1, 3, 3, 2), 7.0))
    assert "1 voxels that are not finite" in caplog.text and "frame 1 is constant (7)" in caplog.text


def test_a_contrast_that_fits_float32_is_accepted(nifti):
    image = load(nifti(scl_inter=1e6))  # 0 to 59; float32 keeps sixteenths of them
    assert torch.equal(image[0].as_tensor() - 1e6, load(nifti())[0].as_tensor())


def test_names_stay_out_of_the_log_above_debug(nifti, caplog):
    voxels = np.zeros((3, 3, 2), np.float32)
    voxels[0, 0, 0] = np.nan
    with caplog.at_level(logging.INFO):
        load(nifti(voxels, name="patient007.nii.gz", xyzt_units=0, srow_x=[-1, 0, 0, 0]))
    assert caplog.records and "patient007" not in caplog.text


REFUSED = {
    "zero dimension": ({"dim": [3, 4, 0, 3, 1, 1, 1, 1]}, "dimensions"),
    "negative dimension": ({"dim": [3, 4, -5, 3, 1, 1, 1, 1]}, "dimensions"),
    "rank 0": ({"dim": [0, 4, 5, 3, 1, 1, 1, 1]}, "dimensions"),
    "rank 8": ({"dim": [8, 4, 5, 3, 1, 1, 1, 1]}, "dimensions"),
    "1D": ({"dim": [1, 60, 1, 1, 1, 1, 1, 1]}, "1 dimensions"),
    "5D": ({"dim": [5, 4, 5, 1, 2, 3, 1, 1]}, "5 dimensions"),
    "bomb": ({"dim": [3, 16000, 16000, 16, 1, 1, 1, 1], "pixdim": [1, 0.05, 0.05, 8, 0, 0, 0, 0]}, "claims"),
    "too few voxels": ({"dim": [3, 4, 5, 4, 1, 1, 1, 1]}, "bytes"),
    "too many voxels": ({"dim": [3, 4, 5, 2, 1, 1, 1, 1]}, "more bytes"),
    "zero pixdim": ({"pixdim": [1, 1.5, 0, 8, 0, 0, 0, 0]}, "voxel spacing"),
    "negative pixdim": ({"pixdim": [1, 1.5, -1, 8, 0, 0, 0, 0]}, "voxel spacing"),
    "NaN pixdim": ({"pixdim": [1, 1.5, np.nan, 8, 0, 0, 0, 0]}, "voxel spacing"),
    "tiny pixdim": ({"pixdim": [1, 1e-30, 1, 8, 0, 0, 0, 0]}, "voxel spacing"),
    "NaN affine": ({"srow_x": [np.nan, 0, 0, 0]}, "the affine"),
    "infinite origin": ({"srow_x": [-1.5, 0, 0, np.inf]}, "the affine"),
    "zero affine": ({"srow_x": 0, "srow_y": 0, "srow_z": 0}, "the affine"),
    "sheared affine": (SHEAR, "sheared"),
    "bad quaternion": ({"sform_code": 0, "qform_code": 1, "quatern_b": 3}, "a qform that is not a rotation"),
    "NaN quaternion": ({"sform_code": 0, "qform_code": 1, "quatern_b": np.nan}, "the affine"),
    "NaN slope": ({"scl_slope": np.nan}, "scl_slope"),
    "infinite slope": ({"scl_slope": np.inf}, "scl_slope"),
    "NaN intercept": ({"scl_inter": np.nan}, "scl_inter"),
    "unknown type": ({"datatype": 77}, "unknown (code 77)"),
    "complex": ({"datatype": 32}, "complex64"),
    "RGB": ({"datatype": 128}, "RGB"),
    "unknown units": ({"xyzt_units": 5}, "code 5"),
    "offset in the header": ({"vox_offset": 100}, "byte 100"),
    "NaN offset": ({"vox_offset": np.nan}, "byte nan"),
    "huge offset": ({"vox_offset": 1e9}, "byte 1e+09"),
    "pair of files": ({"magic": b"ni1"}, "one half of a header and image pair"),
    "a fourth letter": ({"magic": b"n+1x"}, "magic"),
    "huge extent": ({"pixdim": [1, 90, 1, 8, 0, 0, 0, 0], "dim": [3, 60, 1, 1, 1, 1, 1, 1]}, "5400 mm"),
    "intercept that drowns the contrast": ({"scl_inter": 1e9}, "voxels from 1e+09 to 1e+09"),
    "slope that overflows": ({"scl_slope": 1e20}, "to 5.9e+21"),
    "slope that underflows": ({"scl_slope": 1e-25}, "to 5.9e-24"),
}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("case", REFUSED)
def test_implausible_headers_are_refused(nifti, case, name):
    fields, words = REFUSED[case]
    path = nifti(name=name, **fields)
    with pytest.raises(CineError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message and words in caught.value.found and "; expected " in message
    assert message.endswith(".")


def test_damaged_files_are_refused(nifti, tmp_path):
    whole = nifti(np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16)).read_bytes()
    flipped = bytearray(whole)
    flipped[-6] ^= 0xFF  # the stored checksum
    files = {
        "truncated": whole[:-200],
        "without trailer": whole[:-8],
        "bad checksum": bytes(flipped),
        "empty": b"",
        "text": b"H: 4, W: 5, D: 3\n" * 40,
        "short": gzip.decompress(whole)[:200],
        "only a header": gzip.decompress(whole)[:352],
        "trailing": whole + gzip.compress(b"more"),
        "gzip of nothing": gzip.compress(b""),
    }
    for name, content in files.items():
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(content)
        with pytest.raises(CineError, match=name):
            read_volume(path)
    for path in (tmp_path, tmp_path / "none.nii"):
        with pytest.raises(CineError, match="found"):
            read_volume(path)


def test_data_beyond_a_header_s_claim_are_never_decompressed(nifti):
    path = nifti(tail=bytes(50 * 2**20))
    assert path.stat().st_size < 2**18
    with pytest.raises(CineError, match="more bytes of voxels than the header claims; expected 120 bytes"):
        read_volume(path)


def test_volumes_larger_than_memory_are_refused_before_reading(nifti, monkeypatch):
    path = nifti(np.zeros((100, 100, 10), np.uint8))
    monkeypatch.setattr(header_module, "MEMORY_SHARE", 1e-9)
    with pytest.raises(CineError, match=r"which need 6 MiB; expected at most 0 MiB .* Crop the image"):
        read_header(path)
    coarse = nifti(np.zeros((100, 100, 10), np.uint8), pixdim=[1, 6, 6, 8, 0, 0, 0, 0])
    with pytest.raises(CineError, match="which need 98 MiB"):  # 4 bytes and 64 on a grid of 1.5 mm: 16 times as many
        read_header(coarse)


def test_the_memory_of_a_cine_is_for_one_frame_and_all_masks_unless_read_whole(nifti, monkeypatch):
    path = nifti(np.zeros((100, 100, 10, 20), np.uint8))
    monkeypatch.setattr(header_module, "MEMORY_SHARE", 1.0)
    monkeypatch.setattr(header_module, "available_memory", lambda device: 15 * 10**6)
    read_header(path)  # 10^5 voxels per frame: 6.4 MB, and masks of 8 MB
    with pytest.raises(CineError, match="which need 124 MiB; expected at most 14 MiB"):  # 65 bytes for 2 * 10^6 voxels
        read_volume(path)
    monkeypatch.setattr(header_module, "available_memory", lambda device: 14 * 10**6)
    with pytest.raises(CineError, match="which need 14 MiB; expected at most 13 MiB"):
        read_header(path)


def test_volumes_without_a_finite_voxel_are_refused(nifti):
    with pytest.raises(CineError, match="no finite voxel in frame 1 of 1"):
        load(nifti(np.full((2, 2, 2), np.nan, np.float32)))
    with pytest.raises(CineError, match="no finite voxel"):
        load(nifti(np.full((2, 2, 2), 1e300)))


def test_a_refused_file_never_reaches_another_reader(nifti):
    """LoadImage falls back to readers without checks when ``read`` fails."""
    with pytest.raises(CineError, match="sheared"):
        load(nifti(**SHEAR))
    with pytest.raises(CineError, match="2 files"):
        LoadImage(reader=CineReader())([nifti(name="a.nii"), nifti(name="b.nii")])


def test_reading_only_the_header_and_a_pickled_error(nifti):
    path = nifti(np.zeros((4, 5, 3, 7), np.int16))
    header = read_header(path)
    assert (header.shape, header.frames, header.spacing_mm) == ((4, 5, 3), 7, (1.5, 1.25, 8.0))
    with pytest.raises(CineError) as caught:
        read_header(path.with_name("none.nii"))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_seeded_mutations_end_in_a_right_result_or_a_refusal(nifti):
    rng = np.random.default_rng(0)
    path = nifti(np.arange(60, dtype=np.float32).reshape(4, 5, 3), name="a.nii")
    whole = path.read_bytes()
    for _ in range(400):
        mutated = bytearray(whole)
        for place in rng.integers(0, 352, size=rng.integers(1, 4)):
            mutated[place] = rng.integers(0, 256)
        path.write_bytes(mutated)
        try:
            voxels, header = read_volume(path)
        except CineError:
            continue
        assert np.isfinite(voxels).all() and np.isfinite(header.affine).all()
        assert voxels.shape == (header.frames, *header.shape)
