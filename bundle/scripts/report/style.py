"""The common style of all figures: colours, readable names, and one function to save a picture."""

from __future__ import annotations

import itertools
import re
import warnings
from pathlib import Path
from unicodedata import bidirectional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from scripts.core.files import replacing
from scripts.space.provenance import Provenance

STRUCTURE_COLOURS = {"RV": "#e41a1c", "MYO": "#2b6fd6", "LV": "#ffd92f"}
"""Red, blue and yellow."""
KIND_COLOURS = {"contracting": "#0072b2", "non_scaling": "#009e73", "expanding": "#d55e00", "beta": "#222222"}
DPI = 150


def readable(name: str) -> str:
    """An identifier in readable form: ``conv_3x3x3`` becomes ``conv 3×3×3``."""  # noqa: RUF002
    return re.sub(r"(?<=\d)x(?=\d)", "×", name.replace("non_", "non-").replace("_", " "))  # noqa: RUF001


def kind_of(group: str) -> str:
    """The kind of a group of cells, such as contracting of contracting_0; any other name is returned unchanged."""
    return next((kind for kind in KIND_COLOURS if group.startswith(kind)), group)


def scale_of(group: str) -> int:
    """The scale of a group of cells if it has only one, else 0."""
    last = group.rsplit("_", 1)[-1]
    return int(last) if last.isdecimal() else 0


def latency_note(provenance: Provenance) -> str:
    """Predicted and measured ms and the budget, if known."""
    measured, budget = provenance.measured_ms, provenance.budget_ms
    parts = [
        None if provenance.predicted_ms is None else f"predicted {provenance.predicted_ms:.1f} ms",
        f"measured {measured['median_ms']:.1f} ms (p95 {measured['p95_ms']:.1f})" if measured else None,
        f"budget {budget:.1f} ms" if isinstance(budget, int | float) else None,  # not "auto"
    ]
    return ", ".join(part for part in parts if part)


def tidy(axes: Axes, xlabel: str = "", ylabel: str = "", title: str = "", whole_x: bool = False) -> None:
    """The plain frame of every chart; ``whole_x`` keeps the ticks of epochs and frames to whole numbers."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def spread(count: int, width: float) -> np.ndarray:
    """Offsets that separate ``count`` points, within ``width`` around 0."""
    # the golden ratio spreads any number of points evenly, always in the same way
    return width * ((np.arange(count) * 0.618034) % 1.0 - 0.5)


def drawable(text: str) -> str:
    """A text with "…" for signs that the figures' font lacks, such as Chinese names, so without boxes and warnings.

    Scripts that run from right to left are also replaced: older releases of matplotlib draw them backwards.
    """
    shown = get_font(findfont(FontProperties())).get_charmap()

    def fits(sign: str) -> bool:
        return ord(sign) in shown and bidirectional(sign) not in ("R", "AL")

    return "".join("".join(signs) if fit else "…" for fit, signs in itertools.groupby(text, fits))


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format of its suffix, as a whole or not at all."""
    path = Path(path)
    for text in figure.findobj(Text):
        text.set_text("\n".join(drawable(line) for line in text.get_text().split("\n")))
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph ")  # such a warning would put names into the log
        figure.savefig(temporary, dpi=DPI)
    return path
