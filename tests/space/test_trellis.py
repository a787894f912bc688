from __future__ import annotations

import itertools
import math
import random

import pytest

from scripts.space.trellis import Cell, Tile, Trellis, cells_of, text_of, union_of


def enumerate_paths(layers: int, scales: int, start: str, end: str, skip: bool = False) -> list[tuple[int, ...]]:
    """All walks over the scales, by trying every sequence; -1 keeps the scale by the skip edge."""
    steps = range(-1 if skip else 0, scales)
    return [walk for walk in itertools.product(steps, repeat=layers + 1) if is_walk(walk, start, end)]


def is_walk(walk: tuple[int, ...], start: str, end: str) -> bool:
    if walk[0] == -1 or (start == "0" and walk[0] != 0):
        return False
    at = walk[0]
    for step in walk[1:]:
        if step != -1 and abs(step - at) > 1:
            return False
        at = at if step == -1 else step
    return end == "any" or at == 0


@pytest.mark.parametrize(
    ("layers", "scales", "end", "cells", "paths"), [(10, 4, "0", 70, 2135), (10, 4, "any", 85, 10946)]
)
def test_counts_of_the_paper_trellis(layers, scales, end, cells, paths):
    trellis = Trellis(layers, scales, end=end)
    assert (len(trellis.cells), trellis.path_count) == (cells, paths)


@pytest.mark.parametrize(
    ("cell", "share"),
    [
        (Cell(1, 0, 0), 0.3869),
        (Cell(1, 0, 1), 0.6131),
        (Cell(5, 1, 1), 0.1686),
        (Cell(5, 2, 3), 0.0548),
        (Cell(10, 1, 0), 0.6131),
    ],
)
def test_shares_of_the_paper_trellis(cell, share):
    assert Trellis(10, 4).share(cell) == pytest.approx(share, abs=5e-5)


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("scales", [1, 2, 4])
@pytest.mark.parametrize("start", ["0", "any"])
@pytest.mark.parametrize("end", ["0", "any"])
@pytest.mark.parametrize("skip", [False, True])
def test_paths_cells_and_shares_against_enumeration(layers, scales, start, end, skip):
    trellis = Trellis(layers, scales, start, end, skip)
    walks = enumerate_paths(layers, scales, start, end, skip)
    assert sorted(trellis.paths()) == sorted(walks)
    assert trellis.path_count == len(walks)
    assert set(trellis.cells) == {cell for walk in walks for cell in cells_of(walk)}
    for cell in trellis.cells:
        through = sum(cell in cells_of(walk) for walk in walks)
        assert trellis.passing(cell) == through
        assert trellis.share(cell) == pytest.approx(through / len(walks))
    for layer in range(1, layers + 1):
        assert sum(trellis.share(cell) for cell in trellis.cells if cell.layer == layer) == pytest.approx(1)


def test_kinds_and_exits_of_tiles():
    assert [Cell(1, *ends).kind for ends in [(0, 1), (1, 1), (2, 1)]] == ["contracting", "non_scaling", "expanding"]
    exits = Trellis(4, 3).exits
    assert exits[Tile(0, 0)] == (Cell(1, 0, 0), Cell(1, 0, 1))
    assert exits[Tile(3, 1)] == (Cell(4, 1, 0),)  # only one cell leads to the end


@pytest.mark.parametrize("end", ["0", "any"])
@pytest.mark.parametrize("skip", [False, True])
def test_best_paths_equal_those_of_enumeration(end, skip):
    trellis = Trellis(5, 3, end=end, skip=skip)
    rng = random.Random(3)
    score = {cell: rng.random() for cell in trellis.cells}
    ranked = sorted(
        ((sum(score[cell] for cell in cells_of(walk)), walk) for walk in enumerate_paths(5, 3, "0", end, skip)),
        key=lambda scored: -scored[0],
    )
    best = trellis.best_paths(12, score)
    assert [path for _, path in best] == [walk for _, walk in ranked[:12]]
    assert [total for total, _ in best] == pytest.approx([total for total, _ in ranked[:12]])


def test_best_paths_returns_at_most_all_paths():
    trellis = Trellis(3, 2)
    assert len(trellis.best_paths(1000, dict.fromkeys(trellis.cells, 1.0))) == trellis.path_count


def test_equal_probabilities_prefer_paths_that_dive_and_climb_late():
    """A problem of accumulated weights: a tile with one exit has p = 1 there, although nothing was learned."""
    trellis = Trellis(6, 4)
    p = {cell: 1 / len(exits) for exits in trellis.exits.values() for cell in exits}
    (_, best), *_ = trellis.best_paths(1, p)
    assert best == (0, 1, 2, 3, 2, 1, 0)
    lift = {cell: math.log(p[cell] * len(trellis.exits[cell.source_tile])) for cell in trellis.cells}
    assert {round(total, 12) for total, _ in trellis.best_paths(trellis.path_count, lift)} == {0.0}


@pytest.mark.parametrize("path", [(0, 1, 0), (0, 2, 1, 0, 0), (0, 1, 2, 3, 0), (1, 1, 1, 1, 0), (0, 1, 1, 1, 1)])
def test_a_sequence_that_is_not_a_path_is_refused(path):
    with pytest.raises(ValueError, match="path"):
        Trellis(4, 3).check_path(path)


def test_a_skip_edge_is_a_separate_cell():
    trellis = Trellis(2, 2, skip=True)
    assert trellis.exits[Tile(0, 0)] == (Cell(1, 0, 0), Cell(1, 0, 0, True), Cell(1, 0, 1))
    assert cells_of((0, 1, -1, 0)) == [Cell(1, 0, 1), Cell(2, 1, 1, True), Cell(3, 1, 0)]
    assert (Cell(2, 1, 1, True).kind, Cell(2, 1, 1, True).name) == ("skip", "layer2_1to1_skip")
    assert text_of((0, 1, -1, 0)) == "01s0"
    assert trellis.kinds == ("contracting", "non_scaling", "expanding")
    with pytest.raises(ValueError, match="leaves the scales"):
        Trellis(2, 2).check_path((0, -1, 0))
    with pytest.raises(ValueError, match="leaves the scales"):
        trellis.check_path((-1, 0, 0))


@pytest.mark.parametrize("skip", [False, True])
def test_a_cover_is_exactly_its_cells(skip):
    trellis = Trellis(4, 3, "any", "any", skip)
    rng = random.Random(1)
    paths = list(trellis.paths())
    for count in (1, 2, 5, 12, 40):
        union = union_of(rng.sample(paths, count))
        assert union_of(trellis.cover(union)) == union
        assert len(trellis.cover(union)) <= len(union)
    with pytest.raises(ValueError, match="tiles"):
        trellis.cover([Cell(2, 0, 1)])


def test_union_counts_shared_cells_once():
    assert union_of([(0, 1, 0), (0, 1, 1)]) == [Cell(1, 0, 1), Cell(2, 1, 0), Cell(2, 1, 1)]
