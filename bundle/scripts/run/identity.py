"""What a resumed run must share with the run that it goes on with: all keys that its result depends on.

They are not listed: they are found from the sections that compute the result, reference by reference. So a key that is
new, or that an overlay brings in, counts without anyone thinking of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai.bundle import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from scripts.run.workflow import running_parser

IGNORED = {
    "device": "another device goes on with a run",
    "work_dir": "a folder may be moved",
    "exams": "their names count, not their folders",
    "data": "the same of a data set",
    "architecture_file": "what the network computes counts, not its file",
    "table": "its content counts, by its digest",
    "judge": "its budget counts, and its table's digest",
    "deriver": "it derives from the search, after it",
    "identity": "is what is being found",
    **dict.fromkeys(("cache_rate", "num_workers"), "changes the speed only"),
}
"""Keys that do not matter, and why."""


def identity_of(roots: Sequence[str], also: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the running configuration that some sections depend on, as they are written, but for ``IGNORED``.

    Args:
        roots: the sections, such as "searcher" or "train#dataloader".
        also: what no key says, such as the names of the exams.

    Returns:
        Key -> value, and ``also``; plain JSON.

    Raises:
        KeyError: the configuration has no such section.
    """
    parser = running_parser()
    found: dict[str, Any] = {}
    waiting = list(roots)
    while waiting:
        key = waiting.pop()
        if key in found or set(key.split(ID_SEP_KEY)) & IGNORED.keys():
            continue
        found[key] = _counting(parser[key])
        waiting += [reference for reference in _references(found[key]) if reference in parser]
    return {**{key: found[key] for key in sorted(found)}, **also}


def _counting(value: Any) -> Any:
    """A section without the keys that do not matter."""
    if isinstance(value, dict):
        return {key: _counting(child) for key, child in value.items() if key not in IGNORED}
    return [_counting(child) for child in value] if isinstance(value, list) else value


def _references(value: Any) -> Iterator[str]:
    """The ids that a section refers to."""
    if isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _references(child)
    elif isinstance(value, str):
        yield from ReferenceResolver.match_refs_pattern(value)
