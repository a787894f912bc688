from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from scripts.core.errors import CineError
from scripts.space.architecture import Architecture
from scripts.space.space import Space
from scripts.space.trellis import Cell


@pytest.mark.parametrize("channels", [4, (4, 12, 10)])
def test_loading_returns_the_saved_content(architecture, tmp_path, channels):
    architecture = replace(architecture, space=replace(architecture.space, channels=channels))
    architecture = architecture.with_provenance(seed=3, predicted_ms=1.25)
    architecture.save(tmp_path / "a.json")
    assert Architecture.load(tmp_path / "a.json") == architecture


def test_union_and_depth(architecture):
    assert architecture.depth == 2
    assert len(architecture.union) == 8
    assert Cell(1, 0, 0) in architecture.union
    assert Cell(2, 1, 1) not in architecture.union


def test_sizes_are_halved_only_in_plane_and_padded():
    space = Space(scales=4, stem_stride=2, deployment_size=(100, 112, 7))
    assert [space.size(s) for s in range(4)] == [(56, 56, 7), (28, 28, 7), (14, 14, 7), (7, 7, 7)]
    assert [space.width(s) for s in range(4)] == [16, 32, 64, 128]
    listed = replace(space, channels=[8, 32, 96, 128])
    assert [listed.width(s) for s in range(4)] == [8, 32, 96, 128]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("format", "rtdnas-architecture-9", "field format"),
        ("layers", 0, "field layers"),
        ("channels", 10**9, "field channels"),
        ("paths", [[0, 1, 2, 1]], "field paths"),
        ("paths", [[0, 1, 2, 1, 7]], "field paths"),
        ("paths", [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], "the same path twice"),
        ("paths", [], "field paths"),
        ("cells", {"contracting": [[0, "conv_3x3x3"], [1, "identity"]]}, "all cells that the paths use"),
        ("cells", {"sideways": []}, "field cells"),
        ("operations", ["os.system"], "field operations"),
        ("deployment_size", [16, 16], "field deployment_size"),
    ],
)
def test_an_invalid_file_is_refused_and_its_field_is_named(architecture, tmp_path, field, value, says):
    path = tmp_path / "architecture.json"
    architecture.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(CineError, match=says) as caught:
        Architecture.load(path)
    assert str(path) in str(caught.value)
    assert "step search or derive" in str(caught.value)


@pytest.mark.parametrize(
    "nodes", [[[0, "conv_3x3x3"], [2, "identity"]], [[0, "conv_3x3x3"]], [[0, "magic"], [0, "identity"]]]
)
def test_a_cell_that_reads_a_missing_tensor_is_refused(architecture, tmp_path, nodes):
    path = tmp_path / "architecture.json"
    architecture.save(path)
    content = json.loads(path.read_text())
    content["cells"]["contracting"] = nodes
    path.write_text(json.dumps(content))
    with pytest.raises(CineError, match="cells#contracting"):
        Architecture.load(path)


def test_an_error_for_a_missing_or_broken_file_gives_an_action(tmp_path):
    with pytest.raises(CineError, match="no such file"):
        Architecture.load(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"format": "rtdnas-arch')
    with pytest.raises(CineError, match="invalid JSON"):
        Architecture.load(tmp_path / "half.json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": 0},
        {"channels": 0},
        {"channels": [8, 16]},
        {"channels": [8, 16, 0, 8]},
        {"stem_stride": 3},
        {"operations": ("one",)},
        {"scaling": "never"},
        {"end": 0},
        {"operations": ()},
        {"deployment_size": (1, 2)},
    ],
)
def test_an_invalid_space_is_refused(wrong):
    with pytest.raises(CineError, match=f"space#{next(iter(wrong))}"):
        Space(**wrong)


def test_geometry_needs_no_torch():
    code = "import sys, scripts.space.architecture, scripts.space.trellis; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode
        == 0
    )
