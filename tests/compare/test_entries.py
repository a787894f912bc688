from __future__ import annotations

import pytest

from scripts.compare.entries import read_networks, read_searches
from scripts.core.errors import CineError

SEARCHES = [{"name": "rt"}, {"name": "hw", "configs": ["hw_nas"], "overlays": ["quick"], "overrides": {"seed": 1}}]


def test_each_entry_has_a_folder_named_by_its_letters_and_digits():
    searches = read_searches("work", SEARCHES)
    assert [str(search.folder) for search in searches.values()] == ["work/searches/rt", "work/searches/hw"]
    (network,) = read_networks("work", [{"name": "RT-DNAS N=3, genetic", "system": "s", "baseline": "dints"}], searches)
    assert str(network.folder) == "work/networks/rt_dnas_n_3_genetic"


@pytest.mark.parametrize(
    ("origin", "searched"),
    [
        ({"search": "rt"}, True),
        ({"search": "rt", "derive": {"paths": 3}}, True),
        ({"search": "rt", "random": 0}, False),
        ({"baseline": "dints"}, False),
        ({"architecture": "a.json"}, False),
    ],
)
def test_a_network_has_one_origin(origin, searched):
    (network,) = read_networks("w", [{"name": "a", "system": "s", **origin}], read_searches("w", SEARCHES))
    assert network.searched is searched


@pytest.mark.parametrize(
    ("origin", "found"),
    [
        ({}, "no origin"),
        ({"random": 3}, "found random;"),
        ({"baseline": "unet", "search": "rt"}, "search with baseline"),
        ({"search": "rt", "derive": {}, "random": 3}, "search with derive with random"),
        ({"baseline": "unet_4d"}, r"the baseline unet_4d; expected one of \['bix_nas', .*'unet_monai'\]"),
        ({"search": "ms"}, r"the search ms; expected one of \['rt', 'hw'\]"),
    ],
)
def test_other_origins_are_refused(origin, found):
    with pytest.raises(CineError, match=rf"networks, a: .*{found}"):
        read_networks("w", [{"name": "a", "system": "s", **origin}], read_searches("w", SEARCHES))


@pytest.mark.parametrize("names", [("N=3", "n 3"), ("a", "a"), ("=", "b")])
def test_networks_that_would_share_a_folder_are_refused(names):
    entries = [{"name": name, "system": "s", "baseline": "dints"} for name in names]
    with pytest.raises(CineError, match="differ in their letters or digits"):
        read_networks("w", entries, {})
