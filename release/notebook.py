"""Execute the tutorial notebook, and store its outputs: ``make notebook``.

A test executes the same cells under smaller settings, so the tutorial stays true.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from scripts import BUNDLE_ROOT
from scripts.core.files import replacing

TUTORIAL = BUNDLE_ROOT / "docs" / "tutorial.ipynb"
SETTINGS_TAG = "parameters"
"""The tag of the cell after which other settings come, as papermill has it."""
SECONDS = 3600
"""For one cell: a shared machine may be slow."""


def execute(path: Path = TUTORIAL, settings: str | None = None) -> NotebookNode:
    """All cells of a notebook, executed in order by a kernel that starts in the notebook's folder.

    Args:
        path: of the notebook, which is not changed.
        settings: Python that runs after the cell with the settings, and replaces some of them.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises an error.
    """
    notebook = nbformat.read(path, as_version=4)
    if settings is not None:
        tagged = [SETTINGS_TAG in cell.metadata.get("tags", ()) for cell in notebook.cells]
        notebook.cells.insert(tagged.index(True) + 1, nbformat.v4.new_code_cell(settings))
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
    )
    return client.execute()


def main() -> None:
    notebook = execute()
    # one layout, so that a new execution changes only outputs
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    with replacing(TUTORIAL) as temporary:
        nbformat.write(notebook, temporary)


if __name__ == "__main__":
    main()
