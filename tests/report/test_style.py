"""Pictures show the signs that their font has, and the log does not show the others."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from scripts.report.style import drawable, save_figure


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("patient_01 Müller Ђ Ω", "patient_01 Müller Ђ Ω"),
        ("\u5fc3\u81d3\u691c\u67fb", "…"),  # Chinese and Japanese
        ("\uae40_01", "…_01"),  # Korean
        ("exam \u0645\u062d\u0645\u062f 2", "exam … 2"),  # Arabic
        ("\u05d3\u05d5\u05d3", "…"),  # Hebrew
        ("\u0930\u093e\u092e", "…"),  # Devanagari
        ("heart \U0001fac0", "heart …"),  # an emoji
        ("a\tb", "a…b"),
        ("", ""),
    ],
)
def test_a_name_keeps_the_signs_that_the_font_has(name, shown):
    assert drawable(name) == shown


@pytest.mark.filterwarnings("error")
def test_pictures_show_no_boxes_and_warnings_show_no_names(tmp_path, recwarn):
    figure = Figure()
    axes = figure.add_subplot(title="\u5fc3 $x^2$")
    axes.plot([1], [1], label="\u81d3")
    axes.legend()
    axes.set_xticks([1], ["\u691c"])
    figure.suptitle("\u5fc3\u81d3\nEF 60 %")
    save_figure(figure, tmp_path / "a.png")
    assert axes.get_title() == "… $x^2$" and figure.get_suptitle() == "…\nEF 60 %"
    assert axes.get_legend().get_texts()[0].get_text() == "…"
    assert not recwarn.list
