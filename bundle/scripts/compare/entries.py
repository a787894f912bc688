"""The entries of a comparison: networks, and the searches that produce them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts import BUNDLE_ROOT
from scripts.core.errors import CineError
from scripts.search.history import HISTORY

BASELINES = sorted(path.stem.removeprefix("baseline_") for path in (BUNDLE_ROOT / "configs").glob("baseline_*.json"))
Entry = Mapping[str, Any]


class _Place:
    """An entry with a folder in which steps leave their files."""

    folder: Path

    @property
    def architecture_file(self) -> Path:
        return self.folder / "architecture.json"

    @property
    def history_file(self) -> Path:
        return self.folder / "search" / HISTORY


@dataclass(frozen=True)
class Search(_Place):
    """A search in its own folder.

    Args:
        name: the name by which networks refer to it.
        folder: its work_dir.
        configs: configurations over search.json for another system, such as hw_nas.
        overlays: configurations over those that all share.
        overrides: settings of the step search.
    """

    name: str
    folder: Path
    configs: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Network(_Place):
    """A network to compare, with exactly one origin.

    Args:
        name, system: its own name, and that of the method that found it.
        folder: its work_dir.
        search: the search that produced it; for a random network, the search that gives its space.
        derive: settings of the step derive; None: the network that the search itself derived.
        random: the seed of a random architecture.
        baseline: the configuration ``baseline_NAME.json`` that defines it.
        architecture: the path of its architecture.json.
    """

    name: str
    system: str
    folder: Path
    search: Search | None = None
    derive: Mapping[str, Any] | None = None
    random: int | None = None
    baseline: str | None = None
    architecture: str | None = None

    @property
    def searched(self) -> bool:
        return self.search is not None and self.random is None


def read_searches(work_dir: str, entries: Sequence[Entry]) -> dict[str, Search]:
    """The searches by name, in ``work_dir/searches``; CineError if two share a folder."""
    searches = {}
    for entry, folder in zip(entries, _folders(Path(work_dir) / "searches", entries), strict=True):
        configs, overlays = (tuple(entry.get(key, ())) for key in ("configs", "overlays"))
        searches[entry["name"]] = Search(entry["name"], folder, configs, overlays, entry.get("overrides", {}))
    return searches


def read_networks(work_dir: str, entries: Sequence[Entry], searches: Mapping[str, Search]) -> list[Network]:
    """The networks in their order, in ``work_dir/networks``.

    Raises:
        CineError: an entry has no origin or several, a search or baseline is unknown, or two entries share a folder.
    """
    folders = _folders(Path(work_dir) / "networks", entries)
    return [_network(entry, folder, searches) for entry, folder in zip(entries, folders, strict=True)]


def _network(entry: Entry, folder: Path, searches: Mapping[str, Search]) -> Network:
    where = f"networks, {entry['name']}"
    origin = {key: entry[key] for key in ("search", "derive", "random", "baseline", "architecture") if key in entry}
    if sorted(origin) not in (
        *(["search"], ["derive", "search"], ["random", "search"]),
        *(["baseline"], ["architecture"]),
    ):
        expected = "search (with derive, random or neither), baseline or architecture"
        raise CineError(where, " with ".join(origin) or "no origin", expected, "Correct the entry.")
    if "baseline" in origin and origin["baseline"] not in BASELINES:
        raise CineError(where, f"the baseline {origin['baseline']}", f"one of {BASELINES}", "Correct the name.")
    name = origin.pop("search", None)
    if name is not None and name not in searches:
        raise CineError(where, f"the search {name}", f"one of {list(searches)}", "Add it to searches.")
    return Network(entry["name"], entry["system"], folder, searches.get(name), **origin)


def _folders(parent: Path, entries: Sequence[Entry]) -> list[Path]:
    """A folder for each entry, named by the letters and digits of its name."""
    folders = [parent / re.sub(r"[^a-z0-9]+", "_", entry["name"].lower()).strip("_") for entry in entries]
    for entry, folder in zip(entries, folders, strict=True):
        if folder == parent or folders.count(folder) > 1:
            expected = "names that differ in their letters or digits"
            raise CineError(parent.name, repr(entry["name"]), expected, "Rename it.")
    return folders
