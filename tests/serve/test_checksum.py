from __future__ import annotations

import builtins

import pytest

from scripts.serve import checksum

CHECK = 0x6C40DF5F0B497347
"""The check value of CRC-64/ECMA-182 in the catalogue of parametrised CRC algorithms."""


def test_it_has_the_check_value_of_its_standard():
    assert checksum.crc64(b"123456789") == CHECK
    assert checksum.crc64(bytearray(b"123456789")) == CHECK


def test_without_fastcrc_it_is_slow_but_the_same(monkeypatch, caplog):
    pytest.importorskip("crcmod")
    real = builtins.__import__

    def without(name, *arguments):
        if name.startswith("fastcrc"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    caplog.set_level("INFO")
    assert checksum._choose()(b"123456789") == CHECK
    assert "fastcrc is not installed" in caplog.text
