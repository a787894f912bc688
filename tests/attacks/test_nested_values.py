"""Values in a checkpoint that are endless where they are walked, compared or shown."""

from __future__ import annotations

import pytest

from scripts.files import CineError


def test_a_list_in_a_list_without_end(with_pickle, model_dir, opens):
    with_pickle(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    with pytest.raises(CineError, match="nested more than 64 deep"):
        opens(model_dir)


def test_a_list_that_holds_itself(with_pickle, model_dir, opens):
    with_pickle(b"\x80\x02]q\x00h\x00a.")
    with pytest.raises(CineError, match="nested more than 64 deep"):
        opens(model_dir)


def test_ten_of_ten_of_ten(with_pickle, model_dir, opens, monkeypatch):
    """Each list holds the one before ten times: 200 bytes that are 10**12 values."""
    monkeypatch.setattr("scripts.archive.MOST_VALUES", 10_000)
    with_pickle(b"\x80\x02]q\x00" + b"".join(b"](" + b"h%c" % n * 10 + b"eq%c" % (n + 1) for n in range(12)) + b".")
    with pytest.raises(CineError, match="more than 10000 values"):
        opens(model_dir)
