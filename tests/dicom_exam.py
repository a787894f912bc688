"""A DICOM exam built in code: a cine split into files, which a test may damage before they are written."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pydicom = pytest.importorskip("pydicom")

NAME = "Doe^Jane^1950"
SHAPE = (7, 5, 4, 6)  # H W D T
SPACING_MM = (1.25, 1.5, 8.0)


def oblique(spacing_mm=SPACING_MM, handed=1.0) -> np.ndarray:
    """An affine to RAS whose slices are oblique like short-axis planes."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [35, -20, 50], degrees=True).as_matrix() @ np.diag([-1.0, -1, handed])
    affine[:3, :3] *= spacing_mm
    affine[:3, 3] = [21.5, -40.25, 13.0]
    return affine


def voxels(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4000, shape).astype(np.uint16)


def exam(voxels_HWDT: np.ndarray, affine: np.ndarray, one_series: bool = False) -> list[Any]:
    """The data sets of an exam, slice by slice: each slice has another heart rate; series are separate or common."""
    study, frame = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    series = [pydicom.uid.generate_uid() for _ in range(voxels_HWDT.shape[2])]
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / lengths
    datasets = []
    for depth in range(voxels_HWDT.shape[2]):
        for time in range(voxels_HWDT.shape[3]):
            dataset = pydicom.Dataset()
            dataset.PatientName, dataset.PatientID, dataset.Modality = NAME, NAME, "MR"
            dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.MRImageStorage, pydicom.uid.generate_uid()
            dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study, frame
            dataset.SeriesInstanceUID = series[0 if one_series else depth]
            dataset.SeriesNumber, dataset.SeriesDescription = (1 if one_series else depth + 1), NAME
            dataset.Columns, dataset.Rows = voxels_HWDT.shape[:2]
            dataset.PixelSpacing = [float(lengths[1]), float(lengths[0])]
            dataset.SliceThickness = 6.5
            dataset.ImageOrientationPatient = [round(v, 10) for v in directions[:, :2].T.ravel().tolist()]
            dataset.ImagePositionPatient = [round(v, 8) for v in (lps @ [0, 0, depth, 1])[:3].tolist()]
            dataset.TriggerTime = round(12 + time * (40 + depth), 1)
            dataset.CardiacNumberOfImages = voxels_HWDT.shape[3]
            dataset.InstanceNumber = 1 + time + (depth * voxels_HWDT.shape[3] if one_series else 0)
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated = dataset.BitsStored = 16
            dataset.HighBit, dataset.PixelRepresentation = 15, 0
            dataset.PixelData = voxels_HWDT[:, :, depth, time].T.tobytes()  # rows x columns
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            datasets.append(dataset)
    return datasets


def enhanced(datasets: list[Any], frames: int) -> list[Any]:
    """Enhanced MR objects, each of some successive images, with all varying attributes in functional groups."""
    objects = []
    for start in range(0, len(datasets), frames):
        images = datasets[start : start + frames]
        whole = deepcopy(images[0])
        whole.SOPClassUID, whole.NumberOfFrames = pydicom.uid.EnhancedMRImageStorage, len(images)
        whole.PixelData = b"".join(image.PixelData for image in images)
        measures = group(PixelSpacing=whole.PixelSpacing, SliceThickness=whole.SliceThickness)
        whole.SharedFunctionalGroupsSequence = [group(PixelMeasuresSequence=[measures])]
        whole.PerFrameFunctionalGroupsSequence = [
            group(
                PlanePositionSequence=[group(ImagePositionPatient=image.ImagePositionPatient)],
                PlaneOrientationSequence=[group(ImageOrientationPatient=image.ImageOrientationPatient)],
                CardiacSynchronizationSequence=[group(NominalCardiacTriggerDelayTime=float(image.TriggerTime))],
            )
            for image in images
        ]
        for name in ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"):
            delattr(whole, name)
        del whole.TriggerTime, whole.CardiacNumberOfImages
        objects.append(whole)
    return objects


def group(**fields: Any) -> Any:
    dataset = pydicom.Dataset()
    for name, value in fields.items():
        setattr(dataset, name, value)
    return dataset


def series(datasets: list[Any], number: int | None, **fields: Any) -> list[Any]:
    """Copies of some images as another acquisition: new instances, in one new series or in as many as before."""
    copies = deepcopy(datasets)
    uids = {dataset.SeriesInstanceUID: pydicom.uid.generate_uid() for dataset in copies}
    common = pydicom.uid.generate_uid()
    for dataset in copies:
        dataset.SOPInstanceUID = pydicom.uid.generate_uid()
        dataset.SeriesInstanceUID = common if number else uids[dataset.SeriesInstanceUID]
        dataset.SeriesNumber = number or dataset.SeriesNumber + 100
        for name, value in fields.items():
            setattr(dataset, name, value)
    return copies


def bare(dataset: Any, path: Path, implicit: bool = True) -> None:
    """Write a data set only, without the preamble and the file meta information."""
    dataset = pydicom.Dataset(dataset)
    pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)


def write(datasets: list[Any], folder: Path, seed: int = 0, by_series: bool = False) -> Path:
    """Write them under names in a meaningless order, in one folder or in one per series."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = list(range(len(datasets)))
    Random(seed).shuffle(numbers)
    for number, dataset in zip(numbers, datasets, strict=True):
        place = folder / str(dataset.SeriesInstanceUID)[-6:] if by_series else folder
        place.mkdir(exist_ok=True)
        dataset.save_as(place / f"IM{number:04d}", enforce_file_format=True)
    return folder
