from __future__ import annotations

import itertools

import numpy as np
import pytest

from scripts.serve.protocol import MalformedError
from scripts.serve.stack import Part, Stacker, join

MATRIX = np.array([[1.4, 0, 0, 5.0], [0, 1.3, 0, -7.0], [0, 0, 9.0, 11.0], [0, 0, 0, 1]])


def part(place=0.0, depth=1, value=None, kind=np.int16, size=(4, 3), **settings):
    """Slices from a place along the normal (in slices), which hold their place."""
    affine = MATRIX.copy()
    affine[:3, 3] += place * MATRIX[:3, 2]
    values = np.arange(depth) + place if value is None else np.full(depth, value)
    return Part(np.broadcast_to(values, (*size, depth)).astype(kind), affine, f"origin {place}", **settings)


def stacker(slices=None, max_bytes=10**6):
    lines = []
    return Stacker(slices, max_bytes, lines.append), lines


def fed(stack, parts):
    """For each part, the numbers of slices of the volumes that it completes."""
    return [[volume.voxels_IJK.shape[2] for volume in stack.add(part, 0.0)] for part in parts]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_parts_are_joined_along_their_normal_and_find_their_way_back(order):
    volume = join([part(place) for place in order], 3.5)
    np.testing.assert_array_equal(volume.voxels_IJK[0, 0], [0, 1, 2])
    np.testing.assert_allclose(volume.affine, MATRIX, atol=1e-12)
    assert volume.arrived_s == 3.5
    assert [(origin, place.start, place.stop) for origin, place in volume.parts] == [
        (f"origin {place}", place, place + 1) for place in order
    ]


def test_parts_of_several_slices_are_joined_too():
    volume = join([part(2, depth=3), part(0, depth=2)], 0.0)
    np.testing.assert_array_equal(volume.voxels_IJK[0, 0], [0, 1, 2, 3, 4])
    assert [(place.start, place.stop) for _, place in volume.parts] == [(2, 5), (0, 2)]


def test_the_distance_is_that_of_the_places_not_the_thickness():
    volume = join([part(0), part(1.5), part(3)], 0.0)
    assert np.linalg.norm(volume.affine[:3, 2]) == pytest.approx(13.5)


def shifted(number):
    made = part(number)
    made.affine[0, 3] += 3 * number
    return made


def turned(number):
    made = part(number)
    made.affine[:2, :2] = [[0, 1.3], [1.4, 0]]
    return made


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([part(0), part(1), part(3)], "not a stack"),
        ([part(0), part(0)], "not a stack"),
        ([part(0), part(float("nan"), value=1)], "not a stack"),
        ([part(0), shifted(1)], "shifted in plane by 3.0 mm"),
        ([part(0), turned(1)], "different directions"),
    ],
)
def test_what_is_no_stack_is_refused(parts, says):
    with pytest.raises(MalformedError, match=says):
        join(parts, 0.0)


def test_numbered_slices_complete_their_group_in_any_order():
    stack, lines = stacker()
    numbered = [part(k, first=k, of=3, group=group) for k, group in ((0, "a"), (2, "b"), (1, "a"), (0, "b"), (2, "a"))]
    assert fed(stack, numbered) == [[], [], [], [], [3]]
    assert fed(stack, [part(1, first=1, of=3, group="b")]) == [[3]]
    stack.end()
    assert lines == []


def test_a_slice_that_comes_again_begins_its_group_again():
    stack, lines = stacker()
    again = [part(k, first=k, of=3) for k in (0, 1, 0, 1, 2)]
    assert fed(stack, again) == [[], [], [], [], [3]]
    assert lines == ["slice 0 came again before its stack of 3 was complete: the stack is dropped"]


@pytest.mark.parametrize(("first", "depth"), [(-1, 1), (3, 1), (2, 2)])
def test_a_number_outside_the_stack_is_refused(first, depth):
    with pytest.raises(MalformedError, match="of a stack of 3"):
        stacker()[0].add(part(0, depth, first=first, of=3), 0.0)


def test_the_oldest_groups_go_when_too_many_wait():
    stack, lines = stacker(max_bytes=100)  # a slice has 24
    assert fed(stack, [part(0, first=0, of=2, group=group) for group in range(6)]) == [[]] * 6
    assert len(lines) == 2 and "a stack that misses slices is dropped" in lines[0]
    assert fed(stack, [part(1, first=1, of=2, group=group) for group in (5, 0)]) == [[2], []]


def test_whole_volumes_pass_at_once():
    stack, _ = stacker()
    assert fed(stack, [part(0, depth=4), part(0, first=0, of=1), part(0, depth=4, first=0, of=4)]) == [[4], [1], [4]]


def test_the_first_place_that_comes_again_shows_the_number_of_slices():
    stack, lines = stacker()
    cycle = [part(place) for place in (0, 1, 2)]
    assert fed(stack, cycle * 3) == [[], [], [], [3], [], [3], [], [], [3]]
    assert lines == []


def test_single_slices_at_one_place_are_volumes():
    assert fed(stacker()[0], [part(0, value=n) for n in range(4)]) == [[], [1, 1], [1], [1]]


def test_a_lost_slice_costs_one_stack_and_a_changed_number_two():
    stack, lines = stacker()
    fed(stack, [part(place) for place in (0, 1, 2, 0, 1, 2)])
    assert fed(stack, [part(place) for place in (0, 2, 0, 1, 2)]) == [[], [], [], [], [3]]
    assert lines == ["a slice came again before the stack was complete: 2 slices are dropped"]
    two = [part(place) for place in (0, 1)]
    assert fed(stack, two * 4) == [[], [], [], [], [2], [2], [], [2]]


def test_slices_of_another_size_begin_another_stack():
    stack, lines = stacker(slices=3)
    assert fed(stack, [part(0), part(1), *(part(k, size=(5, 5)) for k in range(3))]) == [[], [], [], [], [3]]
    assert lines == ["the geometry of the slices changed: 2 slices are dropped"]


def test_slices_that_never_come_again_are_dropped(monkeypatch):
    monkeypatch.setattr("scripts.serve.stack.MAX_SLICES", 4)
    stack, lines = stacker()
    assert fed(stack, [part(place) for place in range(9)]) == [[]] * 9
    assert lines == ["no slice came again: 4 slices are dropped"] * 2
    stack.end()
    assert lines[-1] == "1 slices never formed a whole stack"
