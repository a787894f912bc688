from __future__ import annotations

import json

import pytest
import torch

from scripts import BUNDLE_ROOT
from scripts.baselines.bix_net import BiXNet, needed

GENE = json.loads((BUNDLE_ROOT / "configs" / "baseline_bix_nas.json").read_text())["network_def"]["build"]["gene"]
# (stage, level): its inputs, traced by hand from the output back to the stem
BY_HAND = {
    (0, 0): [None],
    (0, 1): [(0, 0)],
    (1, 0): [(0, 1)],
    (1, 2): [(0, 0)],
    (2, 0): [(1, 2), (1, 0)],
    (2, 1): [(1, 0), (2, 0)],
    (3, 2): [(2, 0), (2, 1)],
    (3, 3): [(3, 2)],
    (4, 1): [(3, 3)],
    (4, 2): [(4, 1)],
    (5, 0): [(4, 2)],
    (5, 1): [(4, 1), (5, 0)],
    (5, 2): [(5, 1), (4, 1)],
    (5, 3): [(5, 2)],
}


def test_only_blocks_with_influence_on_the_output_are_kept():
    assert needed(GENE) == BY_HAND
    assert list(needed(GENE)) == sorted(BY_HAND)  # a block comes after its inputs


def test_convolutions_are_shared_and_norms_are_not():
    network = BiXNet(1, 4, GENE)
    stem = 27 * (1 * 32 + 32 * 32 + 32 * 48) + 2 * (32 + 32 + 48)
    convolutions = 7 * 2 * 27 * 48 * 48  # three encoder and four decoder levels
    norms = 14 * 2 * 2 * 48
    head = 27 * (48 * 32 + 32 * 32) + 2 * (32 + 32) + 32 * 4
    assert sum(parameter.numel() for parameter in network.parameters()) == stem + convolutions + norms + head


def test_every_block_works_at_the_size_of_its_level():
    network = BiXNet(1, 4, GENE, 2, 3).eval()
    sizes = {}
    for name, norms in network.norms.items():
        norms[1].register_forward_hook(lambda _, __, output, name=name: sizes.update({name: tuple(output.shape[2:])}))
    assert network(torch.randn(1, 1, 96, 64, 5)).shape == (1, 4, 96, 64, 5)
    encoder, decoder = (
        [(48, 32, 5), (24, 16, 5), (12, 8, 5), (6, 4, 5)],
        [(6, 4, 5), (12, 8, 5), (24, 16, 5), (48, 32, 5)],
    )
    assert sizes == {f"stage{s}_level{n}": (decoder if s % 2 else encoder)[n] for s, n in BY_HAND}


def test_slices_are_resized_separately():
    """With kernels that only read their own slice, nothing else mixes slices."""
    network = BiXNet(1, 4, GENE, 8, 8).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv3d) and module.kernel_size == (3, 3, 3):
                module.weight[..., [0, 2]] = 0
        volume = torch.randn(1, 1, 32, 32, 4)
        other = volume.clone()
        other[..., 1] *= -3
        differs = (network(volume) != network(other)).flatten(0, 3).any(0)
    assert differs.tolist() == [False, True, False, False]


def test_a_gene_that_needs_the_bridge_is_refused():
    gene = [*GENE[:-1], [[0, 3], *GENE[-1][1:]]]
    with pytest.raises(ValueError, match="stage 5 reads the bridge"):
        BiXNet(1, 4, gene)
