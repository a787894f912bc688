"""The phantom: exactly ACDC's layout, hearts that move like their group, and a cache that is complete or absent."""

from __future__ import annotations

import gzip
import json
import struct
import threading

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from scripts.cine.reader import read_volume
from scripts.exams import phantom
from scripts.exams.anatomy import GROUPS, Anatomy, contraction
from scripts.exams.load import load_exams
from scripts.measures.function import cardiac_function, save_function


def test_the_layout_is_acdcs(phantom_dir):
    patients = sorted(entry.name for entry in phantom_dir.iterdir())
    assert patients == [f"patient00{number}" for number in range(1, 6)]
    folder = phantom_dir / "patient001"
    info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())
    assert list(info) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
    frames = [f"patient001_frame{int(info[phase]):02d}{end}.nii.gz" for phase in ("ED", "ES") for end in ("", "_gt")]
    expected = {*frames, "patient001_4d.nii.gz", "patient001_4d_gt.nii.gz", "Info.cfg"}
    assert {entry.name for entry in folder.iterdir()} == expected
    assert [exam["group"] for exam in load_exams(phantom_dir)[::2]] == list(GROUPS)


def test_the_affine_trap_is_written(phantom_dir):
    path = phantom_dir / "patient001" / "patient001_frame01.nii.gz"
    raw = gzip.decompress(path.read_bytes())
    assert struct.unpack("<2h", raw[252:256]) == (0, 2)  # qform_code, sform_code
    assert struct.unpack("<12f", raw[280:328]) == (-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0)
    pixdim = struct.unpack("<4f", raw[76:92])
    assert 1.3 <= pixdim[1] == pixdim[2] <= 1.8 and 8 <= pixdim[3] <= 10
    assert np.allclose(nib.load(path).affine, np.diag([-1, -1, 1, 1]))


def test_frames_equal_the_cine_s_and_every_frame_is_labelled(phantom_dir):
    for folder in phantom_dir.iterdir():
        info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())
        for end in ("", "_gt"):
            cine, header = read_volume(folder / f"{folder.name}_4d{end}.nii.gz")
            assert len(cine) == int(info["NbFrame"]) in range(8, 13)
            assert min(header.shape[:2]) >= 96 and max(header.shape[:2]) <= 144 and 6 <= header.shape[2] <= 10
            for phase in ("ED", "ES"):
                number = int(info[phase])
                frame, _ = read_volume(folder / f"{folder.name}_frame{number:02d}{end}.nii.gz")
                assert np.array_equal(frame[0], cine[number - 1])
        assert all(set(np.unique(frame)) == {0, 1, 2, 3} for frame in cine)
        lv = (cine == 3).sum(axis=(1, 2, 3))
        assert (int(info["ED"]), int(info["ES"])) == (lv.argmax() + 1, lv.argmin() + 1)


def test_groups_have_the_typical_motion_of_their_disease(phantom_dir):
    function = {}
    for exam in load_exams(phantom_dir, phases=["ED"]):
        labels, header = read_volume(exam["image"].replace("_frame01", "_4d_gt"))
        function[exam["group"]] = cardiac_function(labels, header.spacing_mm)
    ef = {group: result["LV"]["ef_percent"] for group, result in function.items()}
    assert 50 < ef["NOR"] < 72 and ef["DCM"] < 40 and ef["HCM"] > 55 and ef["MINF"] < 48
    assert function["DCM"]["LV"]["edv_ml"] > 1.3 * function["NOR"]["LV"]["edv_ml"]
    assert function["RV"]["RV"]["edv_ml"] > 1.3 * function["NOR"]["RV"]["edv_ml"]
    assert function["HCM"]["myocardial_mass_g"] > 1.3 * function["NOR"]["myocardial_mass_g"]
    assert not any(result["reasons"] for result in function.values())


def test_the_myocardium_encloses_the_cavity(phantom_dir):
    """In plane, the cavity never touches background or RV, as in a short-axis label map."""
    labels, _ = read_volume(phantom_dir / "patient001" / "patient001_4d_gt.nii.gz")
    for slice_HW in np.moveaxis(labels, -1, 1).reshape(-1, *labels.shape[1:3]):
        around = ndimage.binary_dilation(slice_HW == 3) & (slice_HW != 3)
        assert set(np.unique(slice_HW[around])) <= {2}


def test_a_threshold_does_not_segment_the_cavity(phantom_dir):
    for exam in load_exams(phantom_dir, phases=["ED"]):
        image, label = read_volume(exam["image"])[0], read_volume(exam["label"])[0] == 3
        levels = np.quantile(image, np.linspace(0.5, 0.99, 25))
        best = max(2 * np.sum((image > level) & label) / (np.sum(image > level) + label.sum()) for level in levels)
        assert best < 0.6


def test_a_beat_starts_full_and_empties_once():
    for seed in range(20):
        beat = contraction(12, np.random.default_rng(seed))
        assert beat[0] == 0 and 0.9 < beat.max() <= 1
        peak = int(beat.argmax())
        assert (np.diff(beat[: peak + 1]) >= 0).all() and (np.diff(beat[peak:]) <= 0).all()


def test_a_patient_depends_only_on_seed_and_number(tmp_path, phantom_dir):
    phantom.write_phantom(tmp_path, patients=1, seed=3)
    for path in sorted((tmp_path / "patient001").iterdir()):
        assert path.read_bytes() == (phantom_dir / "patient001" / path.name).read_bytes()
    assert Anatomy.draw("NOR", np.random.default_rng(1)) != Anatomy.draw("NOR", np.random.default_rng(2))


def test_the_cache_is_written_once_and_completely(tmp_path, monkeypatch):
    calls = []
    writing = threading.Barrier(2)

    def write(folder):
        calls.append(folder)
        writing.wait()  # both callers write at the same time
        (folder / "patient001").mkdir()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(phantom, "write_phantom", write)
    found = []
    threads = [threading.Thread(target=lambda: found.append(phantom.cached_phantom())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = tmp_path / "rtdnas" / "phantom-v1"
    assert found == [expected, expected] and phantom.cached_phantom() == expected
    assert len(calls) == 2 and list(expected.parent.iterdir()) == [expected]


def test_a_failed_write_leaves_no_cache(tmp_path, monkeypatch):
    def write(folder):
        (folder / "patient001").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(phantom, "write_phantom", write)
    with pytest.raises(OSError, match="No space left"):
        phantom.cached_phantom()
    assert not list((tmp_path / "rtdnas").iterdir())


def test_results_from_the_phantom_are_marked(tmp_path, monkeypatch, caplog):
    """In the log, in the flags of function.json, and by its path; a copy elsewhere counts as a normal file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(phantom, "write_phantom", lambda folder: None)
    cached = phantom.cached_phantom() / "patient001_4d.nii"
    assert "using the PHANTOM" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    for path, flags in ((cached, [{"flag": "phantom"}]), (tmp_path / "cine.nii", [])):
        nib.save(nib.Nifti1Image(np.ones((8, 8, 6, 1), np.int16), np.diag([-8.0, -8, 8, 1])), path)
        assert phantom.is_phantom(path) == bool(flags)
        save_function({"pred": np.ones((1, 8, 8, 6)), "source": str(path)}, tmp_path / "f.json")
        written = json.loads((tmp_path / "f.json").read_text())["flags"]
        assert [flag for flag in written if flag["flag"] == "phantom"] == flags
