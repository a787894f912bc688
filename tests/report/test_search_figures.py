from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from scripts.core.errors import CineError
from scripts.report.search_figures import (
    breakdown_figure,
    cells_figure,
    curves_figure,
    evolution_figure,
    trellis_figure,
    write_search_figures,
)
from scripts.search.relaxation import uniform_mixing
from scripts.space.provenance import Provenance


def lines_of(figure, prefix=""):
    """Lines by gid, without the prefix."""
    lines = [line for axes in figure.axes for line in axes.lines if (line.get_gid() or "").startswith(prefix)]
    return {line.get_gid().removeprefix(prefix): line for line in lines if line.get_gid()}


def test_trellis_highlights_the_union_of_the_paths_and_draws_every_other_cell(architecture, mixing):
    figure = trellis_figure(architecture, mixing)
    chosen = {cell.name for cell in architecture.union}
    assert lines_of(figure, "chosen ").keys() == chosen
    assert lines_of(figure, "other ").keys() == {cell.name for cell in mixing.cells} - chosen


def test_trellis_line_runs_between_the_tiles_of_its_cell(architecture, mixing):
    lines = lines_of(trellis_figure(architecture, mixing), "chosen ")
    for cell in architecture.union:
        assert lines[cell.name].get_xydata().tolist() == [[cell.layer - 1, cell.source], [cell.layer, cell.target]]


def test_trellis_line_widths_show_the_probability_of_cells(architecture, mixing):
    figure = trellis_figure(architecture, mixing)
    lines = lines_of(figure, "chosen ") | lines_of(figure, "other ")
    ranked = sorted(mixing.cells, key=lambda cell: float(mixing.cells[cell]))
    widths = [lines[cell.name].get_linewidth() for cell in ranked]
    assert widths == sorted(widths)
    assert widths[-1] / widths[len(widths) // 2] == pytest.approx(
        float(mixing.cells[ranked[-1]]) / float(mixing.cells[ranked[len(widths) // 2]])
    )


def test_trellis_colours_show_how_many_paths_share_a_cell(architecture, mixing):
    lines = lines_of(trellis_figure(architecture, mixing), "chosen ")
    colours = {name: tuple(line.get_color()) for name, line in lines.items()}
    assert colours["layer1_0to0"] == colours["layer2_0to1"] == colours["layer3_1to1"] == colours["layer4_1to0"]  # two
    assert colours["layer1_0to1"] == colours["layer3_1to0"]  # one
    assert colours["layer1_0to0"] != colours["layer1_0to1"]


def test_trellis_draws_unreached_tiles_pale(architecture, mixing):
    reached, faded = trellis_figure(architecture, mixing).axes[0].collections
    assert len(reached.get_offsets()) == len(
        {(layer, s) for path in architecture.paths for layer, s in enumerate(path)}
    )
    assert faded.get_offsets().tolist() == [[2, 0], [2, 2]]


def test_trellis_title_shows_paths_latency_and_budget(architecture, mixing):
    title = trellis_figure(architecture, mixing).axes[0].get_title()
    for part in ("N = 3", "predicted 41.5 ms", "measured 43.2 ms", "p95 45.7", "budget 50.0 ms"):
        assert part in title
    bare = trellis_figure(replace(architecture, provenance=Provenance()), mixing).axes[0].get_title()
    assert bare == "N = 3 paths, 8 of 14 cells"


def test_trellis_refuses_a_mixing_of_another_space(architecture, mixing):
    cells = dict(list(mixing.cells.items())[1:])
    with pytest.raises(CineError, match="no probability for layer1_0to0"):
        trellis_figure(architecture, replace(mixing, cells=cells))


def test_cells_show_every_node_with_its_operation(architecture):
    figure = cells_figure(architecture)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert panels.keys() == {"contracting cell", "non-scaling cell", "expanding cell"}
    labels = [text.get_text().replace("\n", " ") for text in panels["expanding cell"].texts]
    for label in ("$X_0$", "$X_{1}$", "$X_{2}$", "separable conv 3×3×3", "dilated conv 3×3×3", "concat"):  # noqa: RUF001
        assert labels.count(label) == 1


def test_a_node_is_drawn_right_of_its_input_in_its_own_row(architecture):
    for axes, nodes in zip(cells_figure(architecture).axes, architecture.cells.values(), strict=True):
        at = {text.get_text(): text.get_position() for text in axes.texts}
        for i, (j, _) in enumerate(nodes, start=1):
            assert at[f"$X_{{{i}}}$"][0] == at["$X_0$" if j == 0 else f"$X_{{{j}}}$"][0] + 1
        assert len({at[f"$X_{{{i}}}$"][1] for i in (1, 2)}) == 2


def test_evolution_draws_every_pair_of_every_node(history, space, mixing, architecture):
    figure = evolution_figure(history, architecture)
    assert len(figure.axes) == 3 * space.nodes
    for axes, (kind, node) in zip(figure.axes, [(k, n) for k in space.trellis.kinds for n in (1, 2)], strict=True):
        lines = {line.get_gid(): line for line in axes.lines}
        assert len(lines) == node * len(space.operations)
        p = mixing.nodes[kind][node - 1]
        assert lines["0 identity"].get_ydata() == pytest.approx(5 * [float(p[0, space.operations.index("identity")])])
        boldest = max(lines.values(), key=lambda line: line.get_linewidth())
        assert boldest.get_gid() == "{} {}".format(*architecture.cells[kind][node - 1])


def test_evolution_shows_inputs_by_line_style_and_operations_by_colour(history, architecture):
    lines = {line.get_gid(): line for line in evolution_figure(history, architecture).axes[1].lines}
    assert lines["0 identity"].get_color() == lines["1 identity"].get_color() != lines["0 conv_3x3x3"].get_color()
    assert lines["0 identity"].get_linestyle() != lines["1 identity"].get_linestyle()


def test_evolution_shows_all_of_a_probability_that_grows_late(history, space, architecture):
    late = copy.deepcopy(history)
    for kind in space.trellis.kinds:
        late["epochs"][-1]["mixing"]["nodes"][kind][0] = [[0.0, 0.0, 0.0, 0.0, 0.99]]
    assert all(axes.get_ylim()[1] >= 0.99 for axes in evolution_figure(late, architecture).axes[:: space.nodes])


def test_evolution_refuses_a_history_of_another_space_and_an_empty_one(history, space, architecture):
    with pytest.raises(CineError, match="nodes#contracting"):
        evolution_figure(history, replace(architecture, space=replace(space, nodes=3)))
    with pytest.raises(CineError, match="as in the space"):
        evolution_figure(history, replace(architecture, space=replace(space, operations=space.operations[:4])))
    with pytest.raises(CineError, match="at least one epoch"):
        evolution_figure({**history, "epochs": []}, architecture)


def test_curves_draw_losses_latency_budget_and_warm_up(history):
    losses, latency, entropy, shares, multiplier = curves_figure(history).axes
    weight, accuracy = losses.lines
    assert weight.get_ydata() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert np.isnan(accuracy.get_ydata()).tolist() == [True, True, False, False, False]
    expected, budget = latency.lines
    assert list(expected.get_ydata()) == [59, 58, 57, 56, 55]
    assert set(budget.get_ydata()) == {50.0}
    (line,) = multiplier.lines
    assert line.get_ydata()[2:] == pytest.approx([0.3, 0.4, 0.5])
    assert np.isnan(line.get_ydata()[:2]).all()
    assert (len(entropy.lines), len(shares.lines)) == (4, 3)
    for axes in (losses, latency, entropy, shares):
        (shade,) = axes.patches
        assert (shade.get_x(), shade.get_x() + shade.get_width()) == (0.5, 2.5)


def test_curves_without_a_weight_of_latency_have_no_axis_for_it(history):
    plain = [{key: value for key, value in entry.items() if key != "penalty_weight"} for entry in history["epochs"]]
    assert len(curves_figure({**history, "epochs": plain}).axes) == 4


def test_curves_shade_nothing_without_warm_up(history):
    losses = curves_figure({**history, "epochs": history["epochs"][2:]}).axes[0]
    assert not losses.patches


def test_breakdown_bars_sum_to_the_predicted_latency(architecture, table):
    axes = breakdown_figure(architecture, table).axes[0]
    bars = {container.get_label(): [bar.get_height() for bar in container] for container in axes.containers}
    assert sum(sum(heights) for heights in bars.values()) == pytest.approx(table.predict(architecture))
    assert bars["stem and head"] == [table["stem", 0] + table["head", 0], 0, 0]
    # layer1_0to0 and layer4_0to0 are the non-scaling cells at scale 0; layer2_0to1 and layer1_0to1 contract from it
    assert bars["identity"] == pytest.approx([0, 2 * table["identity", 0], 2 * table["identity", 1]])
    scaling = 2 * table["scaling_non_scaling", 0] + 2 * table["scaling_contracting", 0]
    assert bars["scaling"][1] == pytest.approx(scaling)
    assert "measured 43.2 ms" in axes.get_title()


def test_the_breakdown_error_names_the_missing_entry(architecture, table):
    entries = {key: timing for key, timing in table.entries.items() if key != ("conv_3x3x3_chained", 1)}
    with pytest.raises(CineError, match=r"conv_3x3x3.*1"):
        breakdown_figure(architecture, replace(table, entries=entries))


def test_all_figures_are_written_and_none_is_blank(tmp_path, architecture, mixing, history, table):
    paths = write_search_figures(tmp_path / "figures", architecture, mixing, history, table)
    assert [path.name for path in paths] == ["trellis.png", "cells.png", "evolution.png", "curves.png", "latency.png"]
    assert sorted(paths) == sorted((tmp_path / "figures").iterdir())  # no partial file is left
    for path in paths:
        image = imread(path)
        assert image.shape[1] >= 900
        assert image[..., :3].std() > 0.05


def test_a_skip_edge_is_curved_around_its_non_scaling_cell(space, architecture):
    skipping = replace(architecture, space=replace(space, skip=True), paths=((0, 0, 1, -1, 0), (0, -1, 1, 1, 0)))
    lines = {line.get_gid(): line for line in trellis_figure(skipping, uniform_mixing(skipping.space)).axes[0].lines}
    bowed, straight = lines["chosen layer3_1to1_skip"].get_ydata(), lines["chosen layer3_1to1"].get_ydata()
    assert (bowed[0], bowed[-1]) == pytest.approx((1, 1))
    assert list(straight) == [1, 1]
    assert bowed.min() == pytest.approx(0.7)  # up, where no other cell runs


def test_cells_that_scale_first_show_it_first(space, architecture):
    def box(figure):
        axes = figure.axes[0]
        pool = next(text for text in axes.texts if "pool 2" in text.get_text())
        start = next(text for text in axes.texts if text.get_text() == "$X_0$")
        return pool.get_position()[0] - start.get_position()[0]

    assert box(cells_figure(architecture)) > 0
    assert box(cells_figure(replace(architecture, space=replace(space, scaling="before")))) < 0
