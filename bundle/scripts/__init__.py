"""RT-DNAS for 3D cardiac cine MRI: find, train and run a segmentation network within a real-time budget."""

import os
from pathlib import Path

BUNDLE_ROOT = Path(os.path.abspath(__file__)).parents[1]  # not resolved: files may be links into a store of blobs
