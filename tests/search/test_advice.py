from __future__ import annotations

import itertools
import re
from random import Random

import pytest
import torch

from scripts.latency.expectation import LatencyExpectation
from scripts.search.advice import extreme_expectations, warn_of_collapse
from scripts.search.relaxation import uniform_mixing
from scripts.space.architecture import Architecture
from scripts.space.space import Space


def test_the_extreme_expectations_bound_all_networks(make_table):
    space = Space(2, 2, 1, 4, 2, ("conv_3x3x3", "identity"), (16, 16, 3))
    table = make_table(space, lambda name, scale: Random(f"{name} {scale}").uniform(0.1, 1.0))
    paths = list(space.trellis.paths())
    kinds = space.trellis.kinds
    for count in (1, 2):
        every = [
            table.predict(Architecture(space, {k: ((0, o),) for k, o in zip(kinds, chosen, strict=True)}, some))
            for chosen in itertools.product(space.operations, repeat=len(kinds))
            for some in itertools.combinations(paths, count)
        ]
        largest = max(every)
        least, found = extreme_expectations(LatencyExpectation(table, space, network="union", count=count))
        # two independent paths are the same path in half of all draws at best
        share = 0.99 if count == 1 else 0.7
        assert share * largest < found <= largest * (1 + 1e-4)
        if count == 1:
            assert found == pytest.approx(largest, rel=0.02)
            assert least == pytest.approx(min(every), rel=0.02)


@pytest.mark.parametrize(
    ("latency_ms", "weight", "cause"),
    [
        (10.0, 0.03, r"The budget of 10.0 ms \(latency weighs 0.03\) outweighs accuracy"),
        (10.0, -0.002, r"Accuracy itself prefers them \(latency weighs -0.002\)"),
        (5.0, 0.0, "leaves room in the budget"),
    ],
)
def test_a_collapse_names_its_cause(caplog, latency_ms, weight, cause):
    space = Space(2, 2, 1, 4, 2, ("conv_3x3x3", "identity"), (16, 16, 3))
    mixing = uniform_mixing(space)
    first, *others = mixing.nodes
    for group, probability in ((first, [0.4, 0.6]), *((other, [0.6, 0.4]) for other in others)):
        mixing.nodes[group][0][...] = torch.tensor(probability).reshape(mixing.nodes[group][0].shape)
    warn_of_collapse(mixing, space, latency_ms, 10.0, weight)
    (record,) = caplog.records
    assert first in record.message
    assert re.search(cause, record.message)
