from __future__ import annotations

import random

import numpy as np
import pytest
from comparison_rows import row
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from scripts.report.comparison_figure import CLOUD, pareto_front, scatter_figure
from scripts.report.labels import place_labels
from scripts.search.constraint import Constraint


@pytest.mark.parametrize("seed", range(5))
def test_the_front_equals_brute_force(seed):
    draw = random.Random(seed)
    points = [(draw.randint(1, 12), draw.randint(1, 12)) for _ in range(25)]  # few values, so that there are many ties

    def beaten(p):
        return any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)

    front = pareto_front(points)
    assert sorted(front) == [i for i, p in enumerate(points) if not beaten(p)]
    assert [points[i] for i in front] == sorted(points[i] for i in front)


def drawn():
    return [
        row("A one", "A", 0.80, 20),
        row("A two", "A", 0.90, 80),
        row("B", "B", 0.70, 30),
        row("random 1", "random", 0.60, 15, random=True),
        row("failed", "A", None, failure="x"),
        row("empty", "A", None),
    ]


def test_every_network_is_drawn_where_it_was_measured():
    figure = scatter_figure(drawn(), Constraint(50.0, 22.0))
    left, right = figure.axes
    for axes, xs in ((left, [20, 80, 30, 15]), (right, [50, 12.5, 1000 / 30, 1000 / 15])):
        marks = [collection.get_offsets().tolist() for collection in axes.collections]
        assert [mark[0] for mark in marks if mark] == [
            [pytest.approx(x), y] for x, y in zip(xs, (0.8, 0.9, 0.7, 0.6), strict=True)
        ]
    faces = [collection.get_facecolor()[0] for collection in left.collections[:4]]
    assert faces[1].tolist() == [1, 1, 1, 1]  # misses the constraint
    assert faces[0].tolist() != faces[2].tolist()
    assert np.allclose(faces[3][:3], int(CLOUD[1:3], 16) / 255)


def test_the_front_of_either_panel_is_drawn():
    """By latency: 15 ms, 20 ms, 80 ms; B at 30 ms is worse than A's first. By throughput the same networks."""
    left, right = scatter_figure(drawn(), None).axes
    front = next(line for line in left.lines if line.get_label() == "Pareto front").get_xydata()
    assert front.tolist() == [[15, 0.6], [20, 0.8], [80, 0.9]]
    front = next(line for line in right.lines if line.get_label() == "Pareto front").get_xydata()
    assert front[:, 1].tolist() == [0.6, 0.8, 0.9]


def test_the_real_time_region_ends_at_the_constraint():
    left, right = scatter_figure(drawn(), Constraint(50.0, 22.0)).axes
    assert left.patches[0].get_x() + left.patches[0].get_width() == pytest.approx(50)
    assert right.patches[0].get_x() == 22
    for axes in (left, right):
        low, high = axes.get_xlim()
        assert low <= axes.patches[0].get_x() and axes.patches[0].get_x() + axes.patches[0].get_width() <= high
    assert not scatter_figure(drawn(), None).axes[0].patches


def test_random_networks_stay_unnamed_and_names_leave_out_their_system():
    left = scatter_figure(drawn(), None).axes[0]
    assert {text.get_text() for text in left.texts} == {"one", "two", "B"}


def test_the_axis_is_logarithmic_if_networks_differ_widely():
    assert scatter_figure(drawn(), None).axes[0].get_xscale() == "log"
    assert scatter_figure(drawn()[:1], None).axes[0].get_xscale() == "linear"


def test_labels_of_near_points_hide_neither_each_other_nor_the_points():
    figure = Figure(figsize=(6, 5))
    axes = figure.add_subplot()
    points = [(0.5 + 0.03 * i, 0.5 + 0.02 * (i % 2)) for i in range(5)]
    axes.scatter(*zip(*points, strict=True))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = place_labels(axes, points, [f"network {i}" for i in range(4)] + [None])
    boxes = [Text.get_window_extent(label, canvas.get_renderer()) for label in labels]
    assert len(boxes) == 4
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert not any(box.contains(*spot) for spot in axes.transData.transform(points))
        assert axes.get_window_extent().contains(box.x0, box.y0) and axes.get_window_extent().contains(box.x1, box.y1)
