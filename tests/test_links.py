"""Every link of the documents leads to a file of the project, and to a section that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def links(document: Path) -> list[str]:
    """The targets within the project."""
    text = _FENCED.sub("", document.read_text(encoding="utf-8"))
    return [target for target in _LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def sections(document: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document):
    for target in links(document):
        name, _, section = target.partition("#")
        file = document.parent / name if name else document
        assert file.is_file(), f"{target} is no file"
        assert not section or section in sections(file), f"{target} has no such section"


def test_links_are_found():
    assert len(links(ROOT / "README.md")) > 20
    assert any("#" in target for document in DOCUMENTS for target in links(document))
