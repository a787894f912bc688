"""Draw the pictures of a search from its files."""

from __future__ import annotations

import logging
from pathlib import Path

from scripts.core.distributed import on_main
from scripts.latency.table import LatencyTable
from scripts.report.search_figures import write_search_figures
from scripts.search.history import load_history
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing

logger = logging.getLogger(__name__)


@on_main
def report_search(work_dir: str, table: LatencyTable) -> None:
    """Draw the search and the architecture of ``work_dir`` into its folder ``figures``."""
    architecture = Architecture.load(Path(work_dir) / "architecture.json")
    history = load_history(work_dir)
    mixing = Mixing.from_lists(history["epochs"][-1]["mixing"], architecture.space)
    for path in write_search_figures(Path(work_dir) / "figures", architecture, mixing, history, table):
        logger.info("Drew %s", path)
