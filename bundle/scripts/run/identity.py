"""The settings that a resumed run must share with the run that it continues: all keys that its result depends on.

They are not listed by hand. They are found by following the references from the sections that compute the result. So a
new key, or one that an overlay adds, is included automatically.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai.bundle import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from scripts.run.workflow import running_parser

IGNORED = {
    "device": "a run may continue on another device",
    "work_dir": "a folder may be moved",
    "exams": "the names of the exams count, not their folders",
    "data": "the names of the exams count, not their folders",
    "architecture_file": "the content of the network counts, not its file",
    "table": "its content counts, by its digest",
    "judge": "its budget and the digest of its table count",
    "deriver": "it derives a network after the search",
    "_desc_": "words change nothing",
    "identity": "this is the value that is being computed",
    **dict.fromkeys(("cache_rate", "num_workers"), "it only changes the speed"),
}
"""Keys that are left out, and why."""


def identity_of(roots: Sequence[str], also: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the running configuration that some sections depend on, unevaluated, without those in ``IGNORED``.

    Args:
        roots: the sections, such as "searcher" or "train#dataloader".
        also: values that are not in the configuration, such as the names of the exams.

    Returns:
        Key -> value, together with ``also``; plain JSON.

    Raises:
        KeyError: the configuration has no such section.
    """
    parser = running_parser()
    found: dict[str, Any] = {}
    waiting = [ReferenceResolver.normalize_id(root) for root in roots]
    while waiting:
        key = waiting.pop()
        if key in found or set(key.split(ID_SEP_KEY)) & IGNORED.keys():
            continue
        found[key] = _counting(parser[key])
        waiting += [reference for reference in _references(found[key]) if reference in parser]
    return {**{key.replace(ID_SEP_KEY, "#"): found[key] for key in sorted(found)}, **also}


def _counting(value: Any) -> Any:
    """A section without the keys in ``IGNORED``."""
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
