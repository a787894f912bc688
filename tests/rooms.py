"""The rooms of a package: which of its modules imports which, and what breaks the order of the rooms."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path


def rooms_of(document: Path) -> list[str]:
    """The first column of the document's table of rooms, in its order."""
    return re.findall(r"^\| `(\w+)` \|", document.read_text(encoding="utf-8"), re.MULTILINE)


def imports(package: Path) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, also within functions. A folder is its ``__init__``."""
    paths = {_name(path, package): path for path in package.rglob("*.py")}
    return {
        module: {name for name in _imported(module, path, paths) if name != module} for module, path in paths.items()
    }


def faults(graph: Mapping[str, set[str]], rooms: Sequence[str]) -> list[str]:
    """What breaks the order of the rooms, a sentence each.

    Args:
        graph: as of ``imports``.
        rooms: their order; a module may import from its own room and from those before it.
    """
    found = []
    for module, imported in sorted(graph.items()):
        room = _room(module)
        if room and room not in rooms:
            found.append(f"{module} is in no room of the table")
            continue
        for other in sorted(imported):
            if _room(other) in rooms and room in rooms and rooms.index(_room(other)) > rooms.index(room):
                found.append(f"{module} imports {other}: {_room(other)} is below {room} in the table")
    there = set(map(_room, graph))
    found += [f"{room} is in the table and nowhere else" for room in rooms if room not in there]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"a circle: {' imports '.join(reversed(error.args[1]))}")
    return found


def _name(path: Path, package: Path) -> str:
    parts = (package.name, *path.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str) -> str:
    """The folder of a module, or the module itself where it is in none; "" is the package's own ``__init__``."""
    return module.split(".")[1] if "." in module else ""


def _imported(module: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    folder = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), folder)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield from (name for name in (inner if inner in modules else source,) if name in modules)
