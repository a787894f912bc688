"""Place names next to points, where they cover as little as possible."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

DISTANCES, ANGLES = (11, 20, 32, 46), range(0, 360, 30)  # points, degrees
NEAR = 15  # points; a more distant name gets a line to its point
MARK = 7  # points, the radius of a mark


def place_labels(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str | None]) -> list[Annotation]:
    """Write each name next to its point, where it covers the least of points, other names and the frame's edge.

    Args:
        axes: already drawn, with a final layout.
        points: in data coordinates; points without a name are not covered either.
        names: one per point, or None.
    """
    renderer = FigureCanvasAgg(axes.figure).get_renderer()  # type: ignore[arg-type]
    spots = axes.transData.transform(np.asarray(points, dtype=float))
    radius = MARK * axes.figure.dpi / 72
    taken = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y in spots]
    taken += [text.get_window_extent(renderer) for text in axes.texts]
    frame = axes.get_window_extent(renderer)
    labels: list[Annotation] = []
    for i in sorted((i for i, name in enumerate(names) if name), key=lambda i: -spots[i][1]):
        tried: list[tuple[float, int, Annotation, Bbox]] = []
        for number, (distance, angle) in enumerate(itertools.product(DISTANCES, ANGLES)):
            label = _write(axes, names[i] or "", points[i], distance, math.radians(angle))
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer)  # the extent of an annotation would include its line
            outside = box.width * box.height - _common(box, frame)
            hidden = sum(_common(box, other) for other in taken) + 5 * outside
            tried.append((hidden + 3 * distance, number, label, box))
        _, best, label, box = min(tried, key=lambda entry: entry[:2])
        for _, number, other, _ in tried:
            if number != best:
                other.remove()
        taken.append(box)
        labels.append(label)
    return labels


def _write(axes: Axes, name: str, point: tuple[float, float], distance: float, angle: float) -> Annotation:
    dx, dy = distance * math.cos(angle), distance * math.sin(angle)
    line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkB": 5}
    return axes.annotate(
        name,
        point,
        xytext=(dx, dy),
        textcoords="offset points",
        fontsize=8,
        ha="left" if dx > 1 else "right" if dx < -1 else "center",
        va="center",
        zorder=4,
        arrowprops=line if distance > NEAR else None,
        path_effects=[withStroke(linewidth=2, foreground="white", alpha=0.8)],
    )


def _common(first: Bbox, second: Bbox) -> float:
    """The area that two boxes share."""
    both = Bbox.intersection(first, second)
    return 0.0 if both is None else float(both.width * both.height)
