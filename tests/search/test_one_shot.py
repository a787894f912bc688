from __future__ import annotations

import json
import signal
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from identical import identical
from monai.data import DataLoader, Dataset
from small_search import ONE_SHOT_SPACE, blocks, judge_of, small_one_shot, small_search

from scripts.core.errors import CineError
from scripts.search import candidates
from scripts.search.candidates import CandidateFile, LatencyCost, MemoryCost, sample
from scripts.search.coarse_to_fine import search_coarse_to_fine
from scripts.search.constraint import BudgetMissed
from scripts.search.correlation import correlate, rank, text_of
from scripts.search.mean_dice import mean_dice
from scripts.search.memory import measured_step_memory
from scripts.search.shared_weights import SharedWeights
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.space.sampling import random_architecture
from scripts.space.space import Space
from scripts.space.supernet import Supernet


@pytest.fixture
def space() -> Space:
    return ONE_SHOT_SPACE


@pytest.fixture
def volumes() -> list[dict[str, torch.Tensor]]:
    return blocks()


@pytest.fixture
def build(tmp_path):
    return lambda work_dir=tmp_path, **changes: small_one_shot(work_dir, **changes)


@pytest.fixture
def validation(volumes):
    return DataLoader(Dataset(volumes), batch_size=2)


def state(searcher):
    return {name: part.state_dict() for name, part in searcher.parts.items()}


def test_the_assistant_is_annealed_linearly_over_the_last_epochs(build):
    searcher = build()  # two steps per epoch, annealing in the last two epochs
    shares = [searcher.annealed_at(epoch, number) for epoch in range(5) for number in (1, 2)]
    assert shares == [0, 0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1.0]
    searcher.run_epochs()
    assert [entry["annealed"] for entry in searcher.history] == [0, 0, 0, 0.5, 1.0]
    assert all(build(assistance=name).annealed_at(4, 2) == 0 for name in ("kept", "image", "removed", "none"))


def test_a_folder_holds_one_kind_of_search(tmp_path, build):
    build(tmp_path / "one_shot").run_epochs()
    with pytest.raises(CineError, match=r"found a one-shot search.*expected a search with mixing weights.*work_dir"):
        small_search(tmp_path / "one_shot").run()
    small_search(tmp_path / "mixing").run()
    with pytest.raises(CineError, match=r"found a search with mixing weights.*expected a one-shot search.*work_dir"):
        build(tmp_path / "mixing").run_epochs()
    assert not (tmp_path / "one_shot" / "search" / "history.json").exists()
    assert not (tmp_path / "mixing" / "search" / "one_shot.json").exists()


@pytest.mark.parametrize("assistance", ["annealed", "kept", "image", "removed", "none"])
def test_every_row_of_table_1_is_a_switch(build, tmp_path, assistance):
    """The differences: whether there is an assistant, its inputs, and whether it takes part in evaluation."""
    searcher = build(tmp_path / assistance, assistance=assistance)
    searcher.run_epochs()
    architecture, image = random_architecture(searcher.space, Random(1)), torch.randn(2, 1, 8, 8, 2)
    plain = searcher.predict(image, architecture)
    assert (searcher.assistant is None) == (assistance == "none")
    if searcher.assistant is None:
        return
    assert searcher.assistant.reads_architecture == (assistance != "image")
    with torch.no_grad():
        for parameter in searcher.assistant.parameters():
            parameter.normal_()
    kept = assistance in ("kept", "image")
    assert torch.equal(plain, searcher.predict(image, architecture)) != kept


def test_training_lowers_the_loss(build):
    searcher = build(epochs=25)
    searcher.run_epochs()
    losses = [entry["weight_loss"] for entry in searcher.history]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_a_signal_saves_the_last_step_and_the_same_command_continues(build, tmp_path):
    whole = build(tmp_path / "whole")
    whole.run_epochs()
    broken = build(tmp_path / "broken")
    descend, steps = broken.descend, iter(range(1, 100))

    def interrupted(*arguments):
        if next(steps) == 7:  # the first step of the fourth epoch, which anneals
            signal.raise_signal(signal.SIGINT)
        return descend(*arguments)

    broken.descend = interrupted
    with pytest.raises(KeyboardInterrupt, match="continues from there"):
        broken.run_epochs()
    resumed = build(tmp_path / "broken")
    resumed.run_epochs()
    assert identical(state(resumed), state(whole))
    assert resumed.history == whole.history


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"assistance": "some"}, "assistance"),
        ({"annealing_epochs": 5}, "annealing_epochs"),
    ],
)
def test_invalid_switches_are_refused(build, changes, says):
    with pytest.raises(CineError, match=says):
        build(**changes)


def test_another_space_is_refused(build, space):
    with pytest.raises(CineError, match="one operation per edge"):
        build(supernet=Supernet(space, partial=2))
    with pytest.raises(CineError, match="a checkpoint with assistance = 'annealed'"):
        build().run_epochs()
        build(assistance="kept").run_epochs()


@pytest.mark.parametrize("most", [14.0, 16.5, 1000.0])
def test_the_constraint_is_always_met(space, make_table, most):
    table = make_table(space, lambda name, scale: 1.0 + 0.1 * scale + (name == "conv_3x3x3"))
    candidates = sample(space, 12, LatencyCost(table, most), most, seed=0)
    assert len(candidates) == len({candidate.architecture.digest for candidate in candidates}) == 12
    assert all(table.predict(candidate.architecture) == candidate.cost <= most for candidate in candidates)


def test_a_constraint_that_no_architecture_meets_reports_the_lowest_cost(space, make_table):
    with pytest.raises(
        CineError, match=r"0\.50 ms, which none of 1000 random architectures meets; expected at least 6\.00"
    ):
        sample(space, 2, LatencyCost(make_table(space), 0.5), 0.5, seed=0)


def test_an_auto_budget_is_the_median(space, make_table):
    table = make_table(space)
    budget_ms = LatencyCost(table, "auto").resolved(space, 0)
    costs = [table.predict(random_architecture(space, Random(f"7 {i}"))) for i in range(400)]
    assert 0.35 < sum(cost <= budget_ms for cost in costs) / len(costs) < 0.75


def test_the_memory_of_a_step_is_measured(space):
    """It grows linearly with the voxels, from the memory of the weights and the optimiser's copies of them."""
    architecture = random_architecture(space, Random(4))
    small, middle, large = (measured_step_memory(architecture, 1, (size, 8, 2)) for size in (64, 128, 192))
    assert large - middle == pytest.approx(middle - small, rel=0.02)
    weights = sum(parameter.numel() for parameter in CineNet(architecture).parameters())
    assert small - (middle - small) > 3 * 4 * weights
    assert MemoryCost(1.0, 1, [64, 8, 2])(architecture) == pytest.approx(small / 2**20, rel=0.02)


def test_mean_dice_by_hand():
    """Class 1 half right (Dice 2/3 in the first volume), class 2 absent from both, class 3 missed."""
    label = torch.tensor([1, 1, 3, 0]).reshape(1, 1, 4, 1, 1).float()
    answer = torch.tensor([1, 0, 0, 0])
    logits = torch.nn.functional.one_hot(answer, 4).T.reshape(1, 4, 4, 1, 1).float()
    dice = mean_dice(lambda image: logits, [{"image": torch.zeros(1, 1, 4, 1, 1), "label": label}])
    assert dice == pytest.approx((2 / 3 + 0) / 2)


def test_fine_tuning_does_not_change_the_shared_weights(build, validation):
    searcher = build()
    searcher.run_epochs()
    before = {name: tensor.clone() for name, tensor in searcher.supernet.state_dict().items()}
    architecture = random_architecture(searcher.space, Random(0))
    shared = SharedWeights(searcher, validation)
    first, again = (shared.fine_tuned_dice(architecture, 30) for _ in range(2))
    assert first == again != shared.dice(architecture)
    assert all(torch.equal(before[name], tensor) for name, tensor in searcher.supernet.state_dict().items())


def choose(searcher, validation, table, **changes):
    budget = changes.pop("budget_ms", 1000.0)
    judged = {"budget_ms": budget, "volumes_per_second": 0.001, **changes.pop("judged", {})}
    options = {
        "cost": LatencyCost(table, budget),
        "judge": judge_of(searcher.space, table=table, **judged),
        "candidates": 8,
        "fine_tuned": 3,
        "fine_tune_steps": 4,
    }
    return search_coarse_to_fine(searcher, validation, **{**options, **changes})


def test_coarse_to_fine_returns_the_best_network_that_meets_the_constraint(build, validation, make_table, tmp_path):
    searcher = build()
    table = make_table(searcher.space)
    chosen = choose(searcher, validation, table)
    assert Architecture.load(tmp_path / "architecture.json") == chosen
    content = json.loads((tmp_path / "search" / "candidates.json").read_text())["candidates"]
    ranked = sorted(content, key=lambda entry: -entry["dice"])
    tuned = [entry for entry in content if entry["fine_tuned_dice"] is not None]
    assert sorted(entry["dice"] for entry in tuned) == sorted(entry["dice"] for entry in ranked[:3])
    assert chosen.provenance.fine_tuned_dice == max(entry["fine_tuned_dice"] for entry in tuned)
    assert chosen.provenance.measured_ms["p95_ms"] > 0
    assert chosen.provenance.predicted_ms == table.predict(chosen)


def test_a_killed_evaluation_resumes_with_equal_results(build, validation, make_table, tmp_path, monkeypatch):
    whole = choose(build(tmp_path / "whole"), validation, make_table(build().space))
    real, left = SharedWeights.dice, iter(range(5))

    def dice(self, architecture):
        if next(left, None) is None:
            raise RuntimeError("killed")
        return real(self, architecture)

    monkeypatch.setattr(SharedWeights, "dice", dice)
    monkeypatch.setattr("scripts.search.candidates.SECONDS", 0.0)
    table = make_table(build().space)
    with pytest.raises(RuntimeError, match="killed"):
        choose(build(tmp_path / "broken"), validation, table)
    counted = []
    monkeypatch.setattr(SharedWeights, "dice", lambda self, a: counted.append(1) or real(self, a))
    resumed = choose(build(tmp_path / "broken"), validation, table)
    assert len(counted) == 8 - 5 + 3  # unknown values, and one after each fine-tuning
    assert resumed.paths == whole.paths and resumed.cells == whole.cells


def test_another_budget_needs_no_new_training(build, validation, make_table, tmp_path):
    searcher = build()
    table = make_table(searcher.space)
    choose(searcher, validation, table)
    costs = [entry["cost"] for entry in json.loads((tmp_path / "search" / "candidates.json").read_text())["candidates"]]
    assert max(costs) > 8.0
    again = build()
    again.descend = lambda *arguments: pytest.fail("trained again")
    cheap = choose(again, validation, table, budget_ms=8.0, fine_tune_steps=0, judged={"budget_ms": 1e5})
    assert table.predict(cheap) <= 8.0
    costs = [entry["cost"] for entry in json.loads((tmp_path / "search" / "candidates.json").read_text())["candidates"]]
    assert max(costs) <= 8.0


def test_a_constraint_that_no_measured_candidate_meets_is_an_error(build, validation, make_table):
    table = make_table(build().space)
    with pytest.raises(BudgetMissed, match="none of the 3 fine-tuned candidates"):
        choose(build(), validation, table, judged={"budget_ms": 1e-3})
    chosen = choose(build(), validation, table, judged={"budget_ms": 1e-3, "enforced": False})
    assert chosen.provenance.measured_ms["p95_ms"] > chosen.provenance.budget_ms


def test_a_broken_file_of_candidates_is_refused(tmp_path, space):
    file = CandidateFile(tmp_path / "candidates.json", {})
    (tmp_path / "candidates.json").write_text('{"format": "rtdnas-candidates-1", "identity": {}, "candidates": [{}]}')
    with pytest.raises(CineError, match="candidates#0"):
        file.load(space)


def test_correlation_against_ranks_by_hand(build, validation, make_table, tmp_path):
    searcher = build()
    table = make_table(searcher.space)
    result = correlate(searcher, validation, table, 4, fine_tune_steps=2, scratch_steps=6)
    rows = result["architectures"]
    assert json.loads((tmp_path / "correlation.json").read_text())["architectures"] == rows
    scratch, shared = ([row[key] for row in rows] for key in ("scratch_dice", "dice"))
    x, y = ([np.sign(of[i] - of[j]) for i in range(4) for j in range(i)] for of in (scratch, shared))
    tied = np.sqrt(np.square(x).sum() * np.square(y).sum())  # tau-b
    assert result["dice"]["kendall_tau"] == (pytest.approx(np.dot(x, y) / tied) if tied else None)
    with pytest.raises(CineError, match="architectures"):
        correlate(searcher, validation, table, 2)


def test_equal_and_different_ranks(space, make_table):
    found = sample(space, 4, LatencyCost(make_table(space), 1e9), 1e9, 0)
    values = [(0.1, 0.9, 0.2), (0.2, 0.8, 0.3), (0.3, 0.7, 0.5), (0.4, 0.6, 0.6)]
    found = [
        replace(candidate, dice=a, fine_tuned_dice=b, scratch_dice=c)
        for candidate, (a, b, c) in zip(found, values, strict=True)
    ]
    ranks = rank(found)
    assert ranks["dice"] == pytest.approx({"kendall_tau": 1, "spearman_rho": 1})
    assert ranks["fine_tuned_dice"] == pytest.approx({"kendall_tau": -1, "spearman_rho": -1})


def test_a_constant_value_gives_no_rank_correlation(space, make_table):
    """Untrained shared weights may give a Dice of 0 everywhere; JSON has no NaN."""
    found = sample(space, 3, LatencyCost(make_table(space), 1e9), 1e9, 0)
    found = [replace(c, dice=0.0, fine_tuned_dice=0.1 * i, scratch_dice=0.2 * i) for i, c in enumerate(found)]
    ranks = rank(found)
    assert ranks["dice"] == {"kendall_tau": None, "spearman_rho": None}
    assert ranks["fine_tuned_dice"]["kendall_tau"] == pytest.approx(1)
    assert text_of(ranks["dice"]) == "no correlation, since one of the Dice values is the same for all"


def test_sampling_stops_if_fewer_than_one_in_a_thousand_meets_the_limit(space, monkeypatch, caplog):
    """Otherwise it would run for hours in a large space."""
    monkeypatch.setattr(candidates, "TRIES", 50)
    drawn = []

    class Cost:
        unit = "ms"

        def __call__(self, architecture):
            drawn.append(architecture)
            return 1.0 if len(drawn) == 10 else 9.0

    assert len(sample(space, 20, Cost(), 1.0, seed=0)) == 1
    assert len(drawn) <= 100
    assert "Only 1 of 20 candidates meet 1.00 ms" in caplog.text
