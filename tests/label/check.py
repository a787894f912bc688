"""MONAI Label serves the packed bundle: a real server on loopback gets the requests of 3D Slicer.

``make test-label`` runs it in its own environment. If ACDC_DIR is ACDC's ``training``, it uses real exams, otherwise
the phantom. It ends with a line ``N passed, N failed``, and with exit code 1 if a check failed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import torch
from server import ANSWER_S, Server, app, infer

from release.pack import NAME, pack
from scripts.cine.header import read_header
from scripts.core import manifest
from scripts.core.files import sha256
from scripts.exams.load import load_exams
from scripts.exams.phantom import write_phantom

LABELS = {"rv": 1, "myo": 2, "lv": 3}  # MONAI Label writes names in lower case
FRAME = 3
GEOMETRY_MM = 1e-3  # the server writes float32


class Checks:
    """The checks for one server with one bundle; ``test_`` methods run in the order of this class."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.studies = folder / "studies"
        self.bundle = app(folder) / "model" / NAME
        with zipfile.ZipFile(pack(folder / "dist")) as archive:
            archive.extractall(self.bundle.parent)
        self.volumes, self.labels, self.cine = self._fill_studies()
        self.before = files_of(self.bundle)
        self.server = Server(folder, NAME)
        infer(self.bundle, self.server.home, input=self.studies, output_dir=folder / "masks")

    def _fill_studies(self) -> tuple[list[str], list[Path], str]:
        """The names of two volumes in the folder of studies, their label files, and the name of a cine there."""
        data = os.environ.get("ACDC_DIR")
        if data is None:
            sys.stdout.write("ACDC_DIR is not set: no real exam is served, but the phantom.\n")
            data = str(self.folder / "phantom")
            write_phantom(data, patients=2)
        exams = load_exams(data)[:2]
        cine = sorted(Path(data).glob("patient*/patient*_4d.nii.gz"))[0]
        self.studies.mkdir()
        for path in (*(exam["image"] for exam in exams), cine):
            shutil.copy(path, self.studies)
        return [name_of(exam["image"]) for exam in exams], [Path(exam["label"]) for exam in exams], name_of(cine)

    def frames(self) -> int:
        return read_header(self.studies / f"{self.cine}.nii.gz").frames

    def infer(self, image: str, output: str = "image", **params: object):
        form = {"params": json.dumps({"device": "cpu", **params})}
        return self.server.ask("POST", f"infer/{NAME}", params={"image": image, "output": output}, data=form)

    def mask(self, image: str, **params: object) -> np.ndarray:
        """The labels from the server, on the grid of the image: H W D."""
        answer = self.infer(image, **params)
        assert answer.ok, f"status {answer.status_code}: {answer.text[:300]}"
        path = self.folder / "answer.nii.gz"
        path.write_bytes(answer.content)
        same_geometry(self.studies / f"{image}.nii.gz", path)
        return voxels(path)

    def reference(self, image: str) -> np.ndarray:
        """The mask of ``run infer`` with the same bundle: H W D, or H W D T."""
        return voxels(self.folder / "masks" / f"{image}_seg.nii.gz")

    def train(self, sync: bool = False, **params: object):
        """One epoch, on all labels."""
        params = {**params, "max_epochs": 1, "device": "cpu", "val_split": 0}
        return self.server.ask("POST", f"train/{NAME}", params={"run_sync": str(sync).lower()}, json=params)

    def offered(self) -> dict[str, object]:
        """The parameters of training that the server offers, as Slicer returns them: with an empty run name."""
        config = self.server.ask("GET", "info/").json()["trainers"][NAME]["config"]
        return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}

    def weights(self) -> dict[str, torch.Tensor]:
        return torch.load(self.bundle / "models" / "model.pt", weights_only=True)

    def test_info_lists_the_model_its_labels_and_the_frame(self) -> None:
        info = self.server.ask("GET", "info/").json()
        model = info["models"][NAME]
        assert model["labels"] == LABELS, model["labels"]
        assert info["labels"] == list(LABELS), info["labels"]
        assert model["type"] == "segmentation" and model["dimension"] == 3
        assert model["config"]["frame"] == 0
        assert NAME in info["trainers"]

    def test_a_volume_gets_the_same_mask_as_from_infer(self) -> None:
        labels, expected = self.mask(self.volumes[0]), self.reference(self.volumes[0])
        assert set(np.unique(labels)) == {0, 1, 2, 3}, np.unique(labels)
        equal(labels, expected)

    def test_json_names_the_labels(self) -> None:
        answer = self.infer(self.volumes[0], "json")
        assert answer.ok and answer.json()["label_names"] == LABELS, answer.text[:300]

    def test_a_chosen_frame_of_a_cine_becomes_a_mask_of_one_volume(self) -> None:
        labels, expected = self.mask(self.cine, frame=FRAME), self.reference(self.cine)
        assert expected.shape == (*labels.shape, self.frames()), "infer gives a mask of the whole cine"
        equal(labels, expected[..., FRAME])
        assert not np.array_equal(labels, expected[..., 0]), "frames that look alike show nothing"

    def test_without_a_frame_number_the_first_frame_is_used(self) -> None:
        equal(self.mask(self.cine), self.reference(self.cine)[..., 0])

    def test_a_missing_frame_is_refused(self) -> None:
        frames = self.frames()
        answer = self.infer(self.cine, frame=frames)
        assert answer.status_code == 500  # MONAI Label reports no details; its log does
        self.server.logs(f"frame: found {frames}; expected a number from 0 to {frames - 1}")

    def test_training_without_labels_is_refused(self) -> None:
        before = self.weights()
        assert not self.train(sync=True).ok
        self.server.logs("exams: found 0 labelled; expected at least 1")
        assert same(before, self.weights())

    def test_an_epoch_of_training_in_the_server_updates_the_model(self) -> None:
        final = self.studies / "labels" / "final"
        final.mkdir(parents=True, exist_ok=True)
        for name, label in zip(self.volumes, self.labels, strict=True):
            with label.open("rb") as file:
                upload = {"label": (f"{name}.nii.gz", file)}
                answer = self.server.ask("PUT", "datastore/label", params={"image": name, "tag": "final"}, files=upload)
                assert answer.ok, answer.text[:300]
        self._trains(lambda: self.train(sync=True))
        assert not list((self.server.home / ".cache").glob("rtdnas/phantom*")), "no phantom is written"

    def test_it_trains_again_in_a_separate_process_as_slicer_requests(self) -> None:
        def start_and_wait():
            answer, end = self.train(**self.offered()), time.monotonic() + ANSWER_S
            while time.monotonic() < end:
                task = self.server.ask("GET", "train/").json()
                if task["status"] not in ("SUBMITTED", "RUNNING"):
                    assert task["status"] == "DONE", "\n".join(task["details"])
                    return answer
                time.sleep(0.5)
            raise AssertionError(f"no end of the training within {ANSWER_S} s")

        self._trains(start_and_wait)

    def _trains(self, train: Callable) -> None:
        before = self.weights()
        answer = train()
        assert answer.ok, f"status {answer.status_code}: {answer.text[:300]}"
        after = self.weights()
        assert not same(before, after) and all(value.isfinite().all() for value in after.values())
        change = torch.cat([(after[key] - before[key]).flatten() for key in before if key.endswith("weight")])
        norm = torch.cat([before[key].flatten() for key in before if key.endswith("weight")]).norm()
        assert change.norm() < 0.15 * norm, "it did not start from the served weights"
        manifest.verify(self.bundle / "models")  # otherwise the next server would refuse them
        card = json.loads((self.bundle / "models" / "model.json").read_text())
        assert any(self.volumes[0] in exam for exam in card["exams"]) and len(card["exams"]) > len(self.volumes)
        assert self.mask(self.volumes[0]).any()

    def test_training_writes_only_into_the_models_folder(self) -> None:
        before, after = (
            {path: digest for path, digest in files.items() if not path.startswith("models/")}
            for files in (self.before, files_of(self.bundle))
        )
        assert after == before
        assert not list(self.server.place.iterdir()), "the server's working directory stays empty"

    def test_a_server_that_starts_after_the_training_serves_its_model(self) -> None:
        asked = self.mask(self.cine, frame=FRAME)
        self.server.__exit__()
        self.server.__enter__()
        equal(self.mask(self.cine, frame=FRAME), asked)


def same_geometry(image: Path, mask: Path) -> None:
    """Check that shape, pixdim, spacing, origin and directions of a mask equal those of its volume or cine frames.

    The values are read by ITK, like in 3D Slicer, and by our own reader. nibabel's affine is not used, since ACDC's
    affines contradict pixdim.
    """
    headers = [read_header(path) for path in (image, mask)]
    assert headers[0].shape == headers[1].shape and not headers[1].is_cine, [header.file_shape for header in headers]
    assert near(headers[0].affine, headers[1].affine)
    assert near(headers[0].raw["pixdim"][1:4], headers[1].raw["pixdim"][1:4])
    read = [itk.imread(str(path)) for path in (image, mask)]
    for of in (itk.spacing, itk.origin):
        assert near(*(np.asarray(of(one))[:3] for one in read))
    assert near(*(itk.array_from_matrix(one.GetDirection())[:3, :3] for one in read))


def near(one: np.ndarray, other: np.ndarray) -> bool:
    return np.allclose(one, other, rtol=0, atol=GEOMETRY_MM)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def equal(labels: np.ndarray, expected: np.ndarray) -> None:
    assert labels.shape == expected.shape
    assert np.array_equal(labels, expected), f"{np.count_nonzero(labels != expected)} of {labels.size} voxels differ"


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def files_of(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file, by its path."""
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def name_of(path: str | Path) -> str:
    return Path(path).name.removesuffix(".nii.gz")


def main() -> int:
    itk.Object.SetGlobalWarningDisplay(False)  # about ACDC's affines, which contradict pixdim
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # then the server is also stopped
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="monai-label-") as scratch:
        checks = Checks(Path(scratch))
        tests = [name for name in vars(Checks) if name.startswith("test_")]
        with checks.server:
            for name in tests:
                begin = time.monotonic()
                try:
                    getattr(checks, name)()
                except Exception:
                    failed += 1
                    sys.stdout.write(
                        f"FAILED {name}\n{traceback.format_exc()}\nThe server's log:\n{checks.server.tail()}\n\n"
                    )
                else:
                    passed += 1
                    sys.stdout.write(f"passed {name} ({time.monotonic() - begin:.1f} s)\n")
                sys.stdout.flush()
    sys.stdout.write(f"{passed} passed, {failed} failed\n")
    return int(failed > 0 or passed < len(tests))


if __name__ == "__main__":
    sys.exit(main())
