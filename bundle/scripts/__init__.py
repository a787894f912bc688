"""RT-DNAS for 3D cardiac cine MRI: find, train and run a segmentation network within a real-time budget."""

from pathlib import Path

BUNDLE_ROOT = Path(__file__).resolve().parents[1]
