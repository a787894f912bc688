"""Values in a checkpoint that would never end when they are traversed, compared or shown."""

from __future__ import annotations

import pytest

from scripts.core.errors import CineError


def test_a_list_in_a_list_without_end(with_pickle, model_dir, opens):
    with_pickle(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    with pytest.raises(CineError, match="more than 64 levels of nested values"):
        opens(model_dir)


def test_a_list_that_contains_itself(with_pickle, model_dir, opens):
    with_pickle(b"\x80\x02]q\x00h\x00a.")
    with pytest.raises(CineError, match="more than 64 levels of nested values"):
        opens(model_dir)


def test_ten_of_ten_of_ten(with_pickle, model_dir, opens, monkeypatch):
    """Each list contains the one before ten times: 200 bytes for 10**12 values."""
    monkeypatch.setattr("scripts.core.safe_load.MAX_VALUES", 10_000)
    with_pickle(b"\x80\x02]q\x00" + b"".join(b"](" + b"h%c" % n * 10 + b"eq%c" % (n + 1) for n in range(12)) + b".")
    with pytest.raises(CineError, match="more than 10000 values"):
        opens(model_dir)


def test_an_integer_that_cannot_be_shown(with_pickle, model_dir, opens):
    with_pickle(b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".")
    with pytest.raises(CineError, match="more than 64 bits"):
        opens(model_dir)


def test_a_pickle_beyond_any_checkpoint(with_pickle, model_dir, opens, monkeypatch):
    monkeypatch.setattr("scripts.core.safe_load.MAX_PICKLE_BYTES", 10_000)
    with_pickle(b"\x80\x02](" + b"N" * 20_000 + b"e.")
    with pytest.raises(CineError, match="a pickle of 0 MiB"):
        opens(model_dir)
