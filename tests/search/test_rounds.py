from __future__ import annotations

import pytest

from scripts.core.errors import CineError
from scripts.search.constraint import BudgetMissed
from scripts.search.rounds import search_in_rounds


class FakeSearcher:
    """Finds networks that take 1.5 times the aim."""

    def __init__(self, aim_ms):
        self.aim_ms, self.round, self.searched = aim_ms, 1, []

    def run(self):
        self.searched.append(self.aim_ms)

    def restart(self, aim_ms):
        self.aim_ms, self.round = aim_ms, self.round + 1


def derivation_for(searcher, budget_ms, calls):
    def derive(last_resort):
        calls.append(last_resort)
        excess = 1.5 * searcher.aim_ms / budget_ms
        if excess <= 1:
            return f"a network of {1.5 * searcher.aim_ms:.1f} ms"
        error = BudgetMissed("budget_ms", "too slow", "faster", "Raise it.")
        error.excess = excess
        raise error

    return derive


def test_a_miss_lowers_the_aim_until_the_constraint_is_met():
    searcher, calls = FakeSearcher(50.0), []
    found = search_in_rounds(searcher, derivation_for(searcher, 50.0, calls), max_rounds=3)
    assert searcher.searched == pytest.approx([50.0, 0.95 * 50 / 1.5])
    assert found == "a network of 47.5 ms"
    assert calls == [False, False]


def test_the_number_of_rounds_is_limited_and_the_last_may_use_fewer_paths():
    searcher, calls = FakeSearcher(50.0), []

    def derive(last_resort):
        calls.append(last_resort)
        error = BudgetMissed("budget_ms", "too slow", "faster", "Raise it.")
        error.excess = 2.0
        raise error

    with pytest.raises(BudgetMissed):
        search_in_rounds(searcher, derive, max_rounds=2)
    assert len(searcher.searched) == 2
    assert calls == [False, True]


def test_a_constraint_that_is_met_needs_only_one_round():
    searcher, calls = FakeSearcher(50.0), []
    search_in_rounds(searcher, derivation_for(searcher, 80.0, calls), max_rounds=3)
    assert searcher.searched == [50.0]


@pytest.mark.parametrize("rounds", [0, 1.5, True, "many"])
def test_rounds_are_whole_numbers(rounds):
    with pytest.raises(CineError, match="max_rounds"):
        search_in_rounds(FakeSearcher(1.0), lambda **_: None, rounds)
