from __future__ import annotations

import pytest
from comparison_rows import comparison, row

from scripts.report.comparison_tables import best_of_each_system, tables
from scripts.report.reported import HW_SYSTEMS, RT_METHODS, RT_SYSTEMS


def cells(text, start):
    """The cells of the first line that starts with a cell."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_in_the_papers_form():
    text = tables(comparison(row("net", dice=0.8126, ms=20.0)))
    dice = "0.813 ± 0.013"
    assert cells(text, "net") == ["net", dice, dice, dice, dice, "20.00 (22.00)", "50.0"]
    assert "Measured on a processor (threads: 2), eager float32, volumes of 128x112x20" in text
    assert "in that state at 75% of the visits; in slower states a reference network took 1.33 times as long" in text
    assert "Never timed in the fast state" not in text
    slow = {**comparison(row("net", dice=0.8126, ms=20.0)), "slow_only": ["net"]}
    assert "**Never timed in the fast state: net**" in tables(slow)
    assert "trained for 30 epochs. Dice" in text and "of 4 patients, fold 0 of 5" in text and "at most 50 ms" in text


@pytest.mark.parametrize(
    ("ms", "latency", "throughput"),
    [
        (45.0, "45.00 (49.50)", "22.2"),
        (45.6, "**45.60 (50.16)** †", "**21.9** †"),  # judged by the 95th percentile
        (45.46, "**45.46 (50.01)** †", "22.0"),  # 21.997 would be printed as if it met the constraint
    ],
)
def test_misses_of_the_constraint_are_marked(ms, latency, throughput):
    rate = 1000 / ms if ms != 45.46 else 22.0
    assert cells(tables(comparison(row("net", ms=ms, volumes_per_second=rate))), "net")[5:] == [latency, throughput]


def test_derivations_of_one_search_are_grouped_in_order():
    rows = [
        row(f"a{n}{method}", search="rt", method=method, paths=n) for n in (5, 3) for method in ("genetic", "dijkstra")
    ]
    text = tables(comparison(*rows, row("other", search="hw", method="dijkstra", paths=2)))
    section = text.split("## ")[1]
    assert section.startswith("Derivations of the search rt")
    measured = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][2:6]
    assert measured == ["Dijkstra (N = 3)", "Dijkstra (N = 5)", "Genetic (N = 3)", "Genetic (N = 5)"]
    assert "search hw" not in text


def test_the_best_of_a_system_and_its_best_in_real_time():
    rows = [
        row("A fast", "A", 0.80, 20),
        row("A slow", "A", 0.90, 80),
        row("A middling", "A", 0.85, 30),
        row("B", "B", 0.7, 10),
        row("C slow", "C", 0.6, 90),
        row("none", "D", None),
    ]
    assert [found["name"] for found in best_of_each_system(rows)] == ["A middling", "A slow", "B", "C slow"]


def test_all_networks_with_their_costs_and_the_failed_ones():
    text = tables(
        comparison(
            row("net", predicted_ms=19.876, seen=True),
            row("baseline", seen=None, kept=None),
            row("bad", dice=None, failure="no\nexams"),
        )
    )
    section = text.split("## All networks")[1]
    assert cells(section, "net")[3:] == ["19.88", "20.00 (22.00)", "50.0", "12,345", "6.79", "3.0", "yes", "yes"]
    assert cells(section, "baseline")[3] == "-"
    assert cells(section, "baseline")[-2:] == ["?", "?"]
    assert text.endswith("## Failed\n\n- bad: no exams\n")
    assert "| bad |" not in text


def test_without_measurements_reported_values_remain():
    text = tables(comparison(row("bad", dice=None, failure="x")))
    assert "ICA-UNet (n = 4), reported" in text and "- bad: x" in text


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        # the averages that the papers print; None if they differ from those of the columns
        (RT_METHODS, [None, 0.905, 0.918, 0.859, 0.910, 0.922]),
        (RT_SYSTEMS, [0.901, 0.920, 0.930, 0.923, 0.933, 0.953, 0.918, 0.922, 0.931]),
        (HW_SYSTEMS, [0.846, 0.690, 0.863, 0.827, 0.880, 0.875, 0.867]),
    ],
    ids=["RT 1", "RT 2", "HW 2"],
)
def test_reported_columns_agree_with_their_printed_averages(source, printed):
    """A misread column would be detected: averages are printed to three digits, cut or rounded."""
    for entry, average in zip(source.rows, printed, strict=True):
        assert average is None or entry.mean == pytest.approx(average, abs=0.0011), entry.name


def test_reported_rows_are_marked_as_reported_and_as_misses():
    text = tables(comparison(row("net")))
    assert cells(text, "HW-Aware NAS, reported")[-2:] == ["**52** †", "**19.5** †"]
    assert cells(text, "BiX-NAS, reported")[-2:] == ["49", "**20.1** †"]
    assert "**Reported** by RT-DNAS (Lu et al., MICCAI 2022), Table 2, on NVIDIA Tesla P100" in text
    assert "not measured here" in text
