"""The adapter in docs/live.md, run as shown there with a stand-in for pyigtl."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np

from scripts.live.segmenter import Status

DOCS = Path(__file__).parents[2] / "docs" / "live.md"


class ImageMessage:
    def __init__(self, image, ijk_to_world_matrix, world_coordinate_system="lps", device_name=None):
        self.image, self.ijk_to_world_matrix = image, ijk_to_world_matrix
        self.world_coordinate_system, self.device_name = world_coordinate_system, device_name


class StringMessage:
    def __init__(self, string, device_name=None):
        self.string, self.device_name = string, device_name


class Client:
    """Sends only one volume."""

    def __init__(self, host, port):
        self.sent, self.waiting = [], [VOLUME]
        clients.append(self)

    def wait_for_message(self, name, timeout):
        return self.waiting.pop() if self.waiting and name == "Cine" else None

    def send_message(self, message):
        self.sent.append(message)

    def stop(self):
        self.stopped = True


# i runs towards the right, j towards the front, k through the slices: in LPS both in-plane axes are negative
AFFINE = np.diag([-1.4, -1.4, 9.0, 1.0])
VOLUME = ImageMessage(np.random.default_rng(0).normal(size=(3, 10, 8)).astype(np.float32), AFFINE)
clients: list[Client] = []


class Positive:
    """Marks positive voxels, and expects the patient's left and back first."""

    def segment(self, volume, spacing_mm):
        assert volume.shape == (8, 10, 3)
        np.testing.assert_allclose(spacing_mm, (1.4, 1.4, 9.0))
        np.testing.assert_array_equal(volume[0, 0], VOLUME.image[:, -1, -1])  # i and j are flipped
        return (volume > 0).astype(np.uint8), Status(1.0, 1.0, True, {}, ["missing RV"])


def test_the_documented_adapter_returns_masks_in_the_image_s_geometry(monkeypatch):
    module = types.SimpleNamespace(OpenIGTLinkClient=Client, ImageMessage=ImageMessage, StringMessage=StringMessage)
    monkeypatch.setitem(sys.modules, "pyigtl", module)
    block = next(b for b in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if "def serve" in b)
    names: dict = {}
    exec(compile(block, str(DOCS), "exec"), names)
    names["serve"](Positive(), "localhost", 18944)
    mask, flags = clients[-1].sent
    np.testing.assert_array_equal(mask.image, VOLUME.image > 0)
    np.testing.assert_array_equal(mask.ijk_to_world_matrix, AFFINE)
    assert (mask.device_name, flags.string) == ("Heart", "missing RV")
    assert clients[-1].stopped
