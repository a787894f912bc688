"""Architecture: the network that was found, and its JSON file. No torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path as FilePath
from typing import Any

from scripts.core.errors import CineError
from scripts.core.json_files import read_json, write_json
from scripts.core.manifest import verify
from scripts.space.provenance import NOTHING_KNOWN, PROVENANCE_SCHEMA, Provenance
from scripts.space.registry import OPERATIONS, ZERO
from scripts.space.space import CHOICES, Space
from scripts.space.trellis import KINDS, SKIP, Cell, Path, scales_of, union_of

FORMAT = "rtdnas-architecture-2"
MAX_NUMBERS = 2**28  # weights, or numbers in a feature map: 1 GiB, too many for any device in real time
Node = tuple[int, str]  # (input tensor j, operation)


@dataclass(frozen=True)
class Architecture:
    """A derived network: the operations of its cells and the paths that it keeps.

    Args:
        space: the space in which it was found.
        cells: for each group of cells (``Space.group``) one (input j, operation) per node.
        paths: distinct paths, each the scales of layers 0..L.
        provenance: how it was found and measured.
    """

    space: Space
    cells: Mapping[str, tuple[Node, ...]]
    paths: tuple[Path, ...]
    provenance: Provenance = NOTHING_KNOWN

    @property
    def union(self) -> list[Cell]:
        """The distinct cells on its paths."""
        return union_of(self.paths)

    def nodes_of(self, cell: Cell) -> tuple[Node, ...]:
        """The nodes of a cell; a skip edge has none."""
        if cell.skip:
            return ()
        return self.cells[self.space.group(cell)]

    @property
    def starts(self) -> list[int]:
        """The scales at which its paths start."""
        return sorted({path[0] for path in self.paths})

    @property
    def ends(self) -> list[int]:
        """The scales at which its paths end."""
        return sorted({scales_of(path)[-1] for path in self.paths})

    @property
    def depth(self) -> int:
        """The coarsest scale that it uses."""
        return max(max(path) for path in self.paths)

    @property
    def max_weights(self) -> int:
        """An upper bound on its number of weights: every operation counts as a 3x3x3 convolution."""
        space, total = self.space, 0
        for cell in self.union:
            if not cell.skip:
                width = space.width(space.operation_scale(cell))
                scaling = space.width(cell.source) * space.width(cell.target)
                total += space.nodes * (27 * width**2 + scaling)
        return total

    @property
    def digest(self) -> str:
        """SHA-256 of the values that define the computation: space, cells and paths. Provenance does not count."""
        cells = {kind: [list(node) for node in self.cells[kind]] for kind in sorted(self.cells)}
        content = [asdict(self.space), cells, [list(path) for path in self.paths]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def with_provenance(self, **entries: Any) -> Architecture:
        """A copy with other entries in its provenance; see ``Provenance.updated``."""
        return replace(self, provenance=self.provenance.updated(**entries))

    def save(self, path: str | FilePath) -> None:
        write_json(
            path,
            {
                "format": FORMAT,
                **asdict(self.space),
                "cells": {kind: [list(node) for node in nodes] for kind, nodes in self.cells.items()},
                "paths": [list(p) for p in self.paths],
                "provenance": self.provenance.to_json(),
            },
        )

    @classmethod
    def load(cls, path: str | FilePath) -> Architecture:
        """Read an architecture file, and check it and the size of its network before anything is built.

        Raises:
            CineError: a field does not fit (the message names it), or the folder does not match its manifest.
        """
        action = "Write it again with the step search or derive, or name another file. A baseline needs its overlay."
        verify(FilePath(path).parent)
        content = read_json(path, SCHEMA, action)
        space = Space(**{entry.name: content[entry.name] for entry in fields(Space)})
        cells = {kind: tuple((j, o) for j, o in nodes) for kind, nodes in content["cells"].items()}
        for kind, nodes in cells.items():
            fits = len(nodes) == space.nodes and all(j <= i and o in OPERATIONS for i, (j, o) in enumerate(nodes))
            if not fits:
                expected = f"{space.nodes} nodes, where node i reads an earlier tensor (0..i-1) by one of {OPERATIONS}"
                raise CineError(f"{path}, field cells#{kind}", repr(nodes), expected, action)
        try:
            paths = tuple(space.trellis.check_path(p) for p in content["paths"])
        except ValueError as error:
            raise CineError(f"{path}, field paths", str(error), "paths of the trellis", action) from None
        if len(set(paths)) < len(paths):
            raise CineError(f"{path}, field paths", "the same path twice", "distinct paths", action)
        needed = {space.group(cell) for cell in union_of(paths) if not cell.skip}
        if missing := needed - cells.keys():
            raise CineError(f"{path}, field cells", f"no {sorted(missing)}", "all cells that the paths use", action)
        architecture = cls(space, cells, paths, Provenance.from_json(content["provenance"]))
        voxels = math.prod(space.deployment_size)
        for name, count in (("channels", architecture.max_weights), ("deployment_size", voxels * space.width(0))):
            if count > MAX_NUMBERS:
                found = f"a network of up to {count:.1e} numbers"
                raise CineError(f"{path}, field {name}", found, f"at most {MAX_NUMBERS:.1e}", action)
        return architecture


def _count(maximum: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": maximum}


# The limits refuse sizes that would use up the memory before a network is built.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", *(entry.name for entry in fields(Space)), "cells", "paths", "provenance"],
    "additionalProperties": False,
    "properties": {
        "format": {"const": FORMAT},
        "layers": _count(64),
        "scales": _count(8),
        "nodes": _count(16),
        "channels": {"anyOf": [_count(512), {"type": "array", "minItems": 1, "maxItems": 8, "items": _count(4096)}]},
        "stem_stride": {"enum": [1, 2]},
        "operations": {
            "type": "array",
            "minItems": 1,
            "maxItems": len(OPERATIONS) + 1,
            "items": {"enum": [*OPERATIONS, ZERO]},
            "uniqueItems": True,
        },
        **{name: {"enum": list(allowed)} for name, allowed in CHOICES.items()},
        "deployment_size": {"type": "array", "minItems": 3, "maxItems": 3, "items": _count(2048)},
        "cells": {
            "type": "object",
            "maxProperties": 2048,
            "propertyNames": {"pattern": f"^(({'|'.join(KINDS)})(_[0-7])?|layer[0-9]{{1,2}}_[0-7]to[0-7])$"},
            "additionalProperties": {
                "type": "array",
                "maxItems": 16,
                "items": {
                    "type": "array",
                    "maxItems": 2,
                    "prefixItems": [{"type": "integer", "minimum": 0}, {"enum": list(OPERATIONS)}],
                    "items": False,
                    "minItems": 2,
                },
            },
        },
        "paths": {
            "type": "array",
            "minItems": 1,
            "maxItems": 256,
            "items": {"type": "array", "maxItems": 65, "items": {"type": "integer", "minimum": SKIP, "maximum": 7}},
        },
        "provenance": PROVENANCE_SCHEMA,
    },
}
