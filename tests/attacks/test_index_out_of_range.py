"""An architecture that reads or writes at places that do not exist."""

from __future__ import annotations

import pytest

from scripts.core.errors import CineError

NODES = {kind: [[0, "conv_3x3x3"], [1, "max_pool_3x3x3"]] for kind in ("contracting", "non_scaling", "expanding")}


@pytest.mark.parametrize("index", [-1, 2, 10**9, 2**80, 0.0, 1.5, True, None, "0", [0]])
def test_a_node_that_reads_a_missing_tensor(edit, model_dir, opens, index):
    edit(cells={**NODES, "contracting": [[0, "conv_3x3x3"], [index, "identity"]]})
    with pytest.raises(CineError, match=r"architecture.json"):
        opens(model_dir)


@pytest.mark.parametrize(
    "path",
    [[0, 1, 2, 3, 0], [0, -1, 0, 0, 0], [0, 1, 2, 1], [0, 2, 2, 1, 0], [0.0] * 5, [True, 0, 0, 0, 0], [], "00000"],
)
def test_a_path_that_leaves_the_trellis(edit, model_dir, opens, path):
    edit(paths=[path])
    with pytest.raises(CineError, match=r"architecture.json, field paths"):
        opens(model_dir)


@pytest.mark.parametrize("operation", ["__import__", "conv_9x9x9", 3, None, {"_target_": "os.system"}])
def test_an_unknown_operation(edit, model_dir, opens, operation):
    edit(cells={**NODES, "expanding": [[0, operation], [0, "identity"]]})
    with pytest.raises(CineError, match=r"architecture.json, field cells#expanding"):
        opens(model_dir)
