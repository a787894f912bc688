from __future__ import annotations

import numpy as np
import pytest

from scripts.core.errors import CineError
from scripts.report.agreement import MEASURES
from scripts.report.evaluation_figures import agreement_figure, groups_figure
from scripts.report.exams_figure import exams_figure, view_exam

SPACING_MM = (2.0, 1.0, 8.0)


def functions(*values: tuple[float | None, float | None]) -> list[dict]:
    return [
        {
            **{"patient": f"p{i}", "group": ("NOR", "DCM")[i % 2]},
            **{"predicted": dict.fromkeys(MEASURES, predicted), "reference": dict.fromkeys(MEASURES, reference)},
        }
        for i, (predicted, reference) in enumerate(values)
    ]


def test_each_patient_lies_at_mean_and_error_between_the_limits():
    figure = agreement_figure(functions((60, 50), (40, 50), (None, 30)))
    axes = figure.axes[0]
    points = {p.get_gid(): np.asarray(p.get_offsets()).tolist() for p in axes.collections if len(p.get_offsets())}
    assert points == {"NOR": [[55.0, 10.0]], "DCM": [[45.0, -10.0]]}
    # errors +10 and -10: standard deviation 10 * sqrt(2)
    lines = sorted({round(float(line.get_ydata()[0]), 3) for line in axes.lines})
    assert lines == [-27.719, 0.0, 27.719]
    assert axes.get_title() == "LV EF (%): n = 2"


@pytest.mark.parametrize("values", [[(60, 50)], [(None, 50)]])
def test_few_patients_can_be_drawn(values, pixels):
    figure = agreement_figure(functions(*values))
    assert pixels(figure).std() > 0
    assert bool(len(figure.axes[0].get_yticks())) == (None not in values[0])  # no axis without data
    assert figure.axes[0].get_title().startswith(f"LV EF (%): n = {sum(None not in pair for pair in values)}")


def rows() -> list[dict]:
    return [
        {
            **{"patient": f"p{i}", "group": group, "phase": phase, "structure": name, "dice": dice},
            **{"dice_base": dice - 0.2, "dice_middle": dice, "dice_apex": None if name == "RV" else 0.35},
        }
        for i, (group, dice) in enumerate((("NOR", 0.9), ("NOR", 0.7), ("RV", 0.5)))
        for phase in ("ED", "ES")
        for name in ("RV", "MYO", "LV")
    ]


def heights(axes) -> list[list[float]]:
    return [np.asarray(points.get_offsets())[:, 1].round(6).tolist() for points in axes.collections]


def test_groups_and_levels_show_each_exam_and_the_mean():
    figure = groups_figure(rows())
    above, beneath = figure.axes
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["NOR\n2 patients", "RV\n1 patient"]
    assert heights(above) == [[0.9, 0.7], [0.8]] * 6 + [[0.5], [0.5]] * 6
    assert [tick.get_text() for tick in beneath.get_xticklabels()] == ["base", "middle", "apex"]
    base, middle, apex = [[0.7, 0.5, 0.3], [0.5]], [[0.9, 0.7, 0.5], [0.7]], [[0.35] * 3, [0.35]]
    assert heights(beneath) == base * 6 + middle * 6 + apex * 4  # no RV at the apex
    assert above.get_ylim()[0] < 0.3


def exam(dice: float | None, patient: str = "p", slices: int = 6) -> dict:
    label = np.zeros((60, 90, slices + 2), np.uint8)
    label[20:40, 20:60, 1:-1] = 2
    label[25:35, 30:50, 1:-1] = 3
    pred = np.roll(label, 3, axis=1)
    image = 10.0 * label + np.arange(slices + 2)
    view = view_exam(image, pred, label, SPACING_MM)
    return {**view, "patient": patient, "group": "NOR", "phase": "ED", "dice": dice}


def test_typical_is_the_median_and_worst_the_lowest(pixels):
    views = [exam(dice, patient) for patient, dice in zip("abcdef", (0.9, None, 0.3, 0.8, 0.7, 0.75), strict=True)]
    figure = exams_figure(views)
    titles = [row.get_suptitle() for row in figure.subfigs]
    assert titles == ["typical: f, ED, NOR: mean Dice 0.750", "worst: c, ED, NOR: mean Dice 0.300"]
    names = [axes.get_title() for axes in figure.subfigs[0].axes]
    assert names == ["base, slice 3 of 8", "middle, slice 4 of 8", "apex, slice 6 of 8"]
    assert pixels(figure).std() > 0


def test_a_view_has_three_slices_cropped_around_the_heart():
    view = exam(0.9)
    assert view["of"] == 8
    assert [(level, d) for level, d, *_ in view["slices"]] == [("base", 2), ("middle", 3), ("apex", 5)]
    for _, d, image, pred, label in view["slices"]:
        assert image.shape == pred.shape == label.shape
        assert label.shape < (60, 90)
        assert np.count_nonzero(label) == np.count_nonzero(pred) == 20 * 40
        assert np.array_equal(image, 10.0 * label + d)


@pytest.mark.parametrize("slices", [1, 2])
def test_exams_of_one_and_two_slices_can_be_drawn(slices, pixels):
    assert pixels(exams_figure([exam(0.5), exam(0.9, slices=slices), exam(0.8, slices=slices)])).std() > 0


def test_no_exam_with_a_dice_is_refused():
    with pytest.raises(CineError, match="no exam with a dice"):
        exams_figure([exam(None)])
