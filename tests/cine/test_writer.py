"""Masks keep the geometry of their input, and no file is overwritten unexpectedly."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from scripts.cine.reader import read_volume
from scripts.cine.writer import ResultWriter, save_mask, write_mask
from scripts.core.errors import CineError
from scripts.exams.inputs import find_inputs

GEOMETRY = {  # byte ranges of a NIfTI-1 header
    "dim": (40, 56),
    "pixdim": (76, 108),
    "xyzt_units": (123, 124),
    "codes, quaternion, sform": (252, 328),
    "toffset": (136, 140),
}


def header_bytes(path) -> bytes:
    content = path.read_bytes()
    return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)[:348]


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (4, 5, 3, 2), (4, 5, 3, 1, 1)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_header_geometry_is_bit_equal(nifti, tmp_path, shape, order):
    image = nifti(
        np.arange(np.prod(shape), dtype=np.int16).reshape(shape),
        order=order,
        pixdim=[-1, 1.5, 1.25, 8, 0.0417, 3, 2, 1],
        xyzt_units=2 + 8,
        qform_code=1,
        quatern_b=0.1,
        quatern_c=0.2,
        qoffset_x=1.1,
        sform_code=2,
        srow_x=[-1, 0, 0, 0.3],
        scl_slope=2,
        cal_max=99,
        toffset=0.5,
    )
    frames = shape[3] if len(shape) > 3 else 1
    labels = np.random.default_rng(0).integers(0, 4, (frames, *(*shape, 1)[:3]))
    mask = tmp_path / "out" / "mask.nii.gz"
    write_mask(mask, labels, like=image)
    for name, (start, stop) in GEOMETRY.items():
        assert header_bytes(mask)[start:stop] == header_bytes(image)[start:stop], name
    written = nib.load(mask)
    assert written.get_data_dtype() == np.uint8 and written.shape == shape
    assert written.header["descrip"].item() == b"1 RV, 2 MYO, 3 LV"
    assert np.array_equal(read_volume(mask)[0], labels)


def test_a_real_cine_keeps_its_header(acdc_dir, tmp_path):
    image = acdc_dir / "patient090" / "patient090_4d.nii.gz"
    frames, _ = read_volume(image)
    labels = (frames > frames.mean()).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", labels, like=image)
    for start, stop in GEOMETRY.values():
        assert header_bytes(tmp_path / "mask.nii.gz")[start:stop] == header_bytes(image)[start:stop]
    assert np.array_equal(np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj), np.moveaxis(labels, 0, -1))


def test_a_prediction_is_saved_next_to_its_input(nifti, tmp_path):
    image = nifti(np.zeros((4, 5, 3, 2), np.int16))
    prediction = MetaTensor(torch.randint(0, 4, (2, 4, 5, 3)).float())
    save_mask({"pred": prediction, "source": str(image)}, tmp_path / "a_seg.nii")
    assert np.array_equal(read_volume(tmp_path / "a_seg.nii")[0], prediction.numpy())


def test_labels_of_another_shape_are_refused_and_nothing_is_written(nifti, tmp_path):
    image, out = nifti(), tmp_path / "out" / "mask.nii.gz"
    with pytest.raises(CineError, match=r"labels of shape \(3, 4, 5\); expected \(1, 4, 5, 3\) \(T H W D\)"):
        write_mask(out, np.zeros((3, 4, 5), int), like=image)
    for value in (0.5, -1, 256, np.nan):
        with pytest.raises(CineError, match="whole numbers from 0 to 255"):
            write_mask(out, np.full((4, 5, 3), value), like=image)
    assert not out.parent.exists()


def test_a_failed_write_leaves_the_old_mask(nifti, tmp_path, monkeypatch):
    image, out = nifti(), tmp_path / "mask.nii.gz"
    write_mask(out, np.ones((4, 5, 3), int), like=image)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(CineError, match="No space"):
        write_mask(out, np.zeros((4, 5, 3), int), like=image)
    assert read_volume(out)[0].all()
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".partial")]


@pytest.fixture
def folder(nifti, tmp_path):
    """Two images among files that are not images."""
    folder = tmp_path / "exams"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.nii.gz", "a.nii", "sub/c.nii.gz"):
        nifti(name=f"exams/{name}")
    for name in ("a_gt.nii.gz", "a_seg.nii", "notes.txt", ".partial-x.nii.gz"):
        (folder / name).write_text("")
    return folder


def test_inputs_of_every_kind(folder, tmp_path):
    found = find_inputs(folder, tmp_path / "out")
    assert found == [
        {
            "image": str(folder / f"{name}{end}"),
            "source": str(folder / f"{name}{end}"),
            "output": f"{tmp_path}/out/{name}",
        }
        for name, end in (("a", ".nii"), ("b", ".nii.gz"))
    ]
    assert find_inputs(str(folder / "a.nii"), tmp_path / "out") == found[:1]
    paths = tmp_path / "paths.txt"
    paths.write_text("# two exams\nexams/b.nii.gz\n\n  exams/sub/c.nii.gz  \n")
    assert [entry["image"] for entry in find_inputs(paths, tmp_path / "out")] == [
        str(folder / "b.nii.gz"),
        str(folder / "sub" / "c.nii.gz"),
    ]
    both = find_inputs([folder, paths, folder / "a.nii"], tmp_path / "out")
    assert [entry["output"] for entry in both] == [f"{tmp_path}/out/{name}" for name in ("a", "b", "sub/c")]


def test_dicom_files_among_nifti_images_are_ignored_with_a_warning(folder, tmp_path, caplog):
    import dicom_exam  # skips the test if pydicom is missing

    dicom_exam.write(dicom_exam.exam(np.zeros((4, 4, 2, 3), np.uint16), np.eye(4)), folder / "exam")
    found = find_inputs(folder, tmp_path / "out")
    assert found and all(item["image"].endswith((".nii", ".nii.gz")) for item in found)
    assert "6 DICOM files are ignored, since their folder contains NIfTI images" in caplog.text


def test_existing_results_are_refused_skipped_or_overwritten(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_seg.nii.gz").write_text("old")
    with pytest.raises(CineError, match=r"a_seg.nii.gz: found an existing result; .* existing to skip or overwrite"):
        find_inputs(folder, out)
    assert len(find_inputs(folder, out, existing="skip")) == 2  # files of a killed run are not results
    for suffix in ("_function.json", "_overlay.png"):
        (out / f"a{suffix}").write_text("old")
    assert [entry["output"] for entry in find_inputs(folder, out, existing="skip")] == [str(out / "b")]
    assert len(find_inputs(folder, out, existing="overwrite")) == 2
    (out / "a_seg.nii.gz").unlink()
    with pytest.raises(CineError, match=r"a_function.json: found an existing result"):
        find_inputs(folder, out)
    with pytest.raises(CineError, match="found 'replace'; expected error, skip or overwrite"):
        find_inputs(folder, out, existing="replace")


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CineError, match="a folder for the results"):
        find_inputs(folder, tmp_path / "file")


def test_a_broken_file_in_a_folder_stays_in_the_list_for_the_reader_to_report(folder, tmp_path):
    (folder / "c.nii").write_text("")
    (folder / "d.nii").symlink_to("gone")
    found = [item["image"] for item in find_inputs(folder, tmp_path / "out")]
    assert found == [str(folder / name) for name in ("a.nii", "b.nii.gz", "c.nii", "d.nii")]


def test_a_folder_that_cannot_be_listed_is_reported(folder, tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(CineError, match=r"a folder that cannot be listed \(Permission denied\)"):
        find_inputs(folder, tmp_path / "out")


def test_unusable_inputs_are_reported(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    paths = tmp_path / "paths.txt"
    for content, words in (
        ("exams/a.nii\nexams/gone.nii\n", "line 2: found '.*exams/gone.nii'"),
        ("exams/notes.txt\n", "line 1"),
        ("# none\n", "found no paths"),
    ):
        paths.write_text(content)
        with pytest.raises(CineError, match=words):
            find_inputs(paths, tmp_path)
    paths.write_bytes(b"\xff\xfe\x00")
    for path, words in (
        (empty, "no NIfTI image"),
        (tmp_path / "gone", "found no such file"),
        (paths, "cannot be read as text"),
        ([], "found nothing"),
    ):
        with pytest.raises(CineError, match=words):
            find_inputs(path, tmp_path)


def test_the_handler_gives_every_item_to_every_writer():
    written = []
    handler = ResultWriter(
        {"_seg.nii.gz": lambda *args: written.append(args), "_f.json": lambda *args: written.append(args)}
    )
    batch = [{"output": "out/a", "pred": None}, {"output": "out/b", "pred": None}]
    engine = Engine(lambda engine, batch: [{"pred": 1}, {"pred": 2}])
    handler.attach(engine)
    engine.run([batch])
    expected = [{"output": "out/a", "pred": 1}, {"output": "out/b", "pred": 2}]
    assert written == [(item, item["output"] + end) for item in expected for end in ("_seg.nii.gz", "_f.json")]


def test_the_handler_names_exactly_the_files_that_it_wrote(tmp_path):
    (tmp_path / "of_another_job_seg.nii.gz").touch()
    handler = ResultWriter({"_seg.nii.gz": lambda item, path: Path(path).touch()})
    engine = Engine(lambda engine, batch: [{"pred": 1}])
    handler.attach(engine)
    engine.run([[{"output": str(tmp_path / "a")}]])
    assert handler.files == [str(tmp_path / "a_seg.nii.gz")]
    (tmp_path / "a_cine.nii.gz").touch()  # the file for a DICOM exam
    assert handler.files == [str(tmp_path / "a_seg.nii.gz"), str(tmp_path / "a_cine.nii.gz")]
