"""The only way to load a PyTorch file: a zip as ``torch.save`` writes it, with only tensors and plain values.

``weights_only`` refuses code. It does not refuse contents that claim memory: a compressed entry, ``bytearray(10**11)``,
a tensor of 2**40 elements with four bytes of storage. So the zip and the pickle are checked before torch opens the
file, and the values are checked before they are used.
"""

from __future__ import annotations

import pickletools
import stat
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from scripts.core.errors import CineError
from scripts.core.files import missing

MAX_BYTES = 4 * 2**30  # the checkpoint of a search has about 100 MiB
MAX_PICKLE_BYTES, MAX_VALUES = 2**25, 2**21  # a search of 40 epochs has about 10,000 values
MAX_DEPTH = 64
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {name}Storage" for name in _STORAGES),
}


class _Refused(ValueError):
    """Contents that ``torch.save`` never writes for tensors and plain values."""


def load_whole(path: str | Path, device: str | torch.device, action: str) -> Any:
    """Tensors and plain values from a file; CineError if it is truncated or contains anything else."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise _Refused("a folder, a pipe or a device")
        with path.open("rb") as file:
            _check_archive(file)
            file.seek(0)
            content = torch.load(file, map_location=device, weights_only=True)
        _check_values(content)
    except FileNotFoundError:
        found, action = missing(path, action)
        raise CineError(path, found, "a PyTorch file", action) from None
    except _Refused as refusal:
        raise CineError(path, str(refusal), "a complete file of tensors and plain values", action) from None
    except Exception as error:  # torch passes on any error of its zip and pickle readers
        raise CineError(
            path, f"a file that cannot be read ({type(error).__name__})", "a complete file", action
        ) from error
    return content


def _check_archive(file: BinaryIO) -> None:
    """Refuse a zip with entries larger than the file or with unsafe paths or links, and a pickle that calls others."""
    size = file.seek(0, 2)
    if size > MAX_BYTES:
        raise _Refused(f"{size / 2**30:.1f} GiB, above the limit of {MAX_BYTES / 2**30:.0f}")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        folders, names = set(), set()
        for entry in entries:
            folder, _, name = entry.filename.partition("/")
            folders.add(folder)
            names.add(name.lower())  # torch ignores the case of names
            if folder in ("", "..") or "\\" in name or not name or {"", ".", ".."} & set(name.split("/")):
                raise _Refused(f"an archive with the path {entry.filename[:80]!r}")
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise _Refused("an archive with a link")
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise _Refused("an archive that is compressed or encrypted, which torch never writes")
        if len(folders) != 1 or len(names) < len(entries) or min(entry.header_offset for entry in entries):
            raise _Refused("an archive with entries that torch does not write")
        if sum(entry.file_size for entry in entries) > size:
            raise _Refused("an archive whose entries are larger than the archive")
        if archive.testzip() is not None:  # torch's reader does not verify checksums
            raise _Refused("an archive with a wrong checksum")
        pickled = archive.getinfo(f"{folders.pop()}/data.pkl")
        if pickled.file_size > MAX_PICKLE_BYTES:
            raise _Refused(f"a pickle of {pickled.file_size / 2**20:.0f} MiB")
        for opcode, argument, _ in pickletools.genops(archive.read(pickled)):
            if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
                raise _Refused(f"a pickle with {opcode.name}")
            if opcode.name == "GLOBAL" and argument not in _GLOBALS:
                raise _Refused(f"a pickle that calls {str(argument).replace(' ', '.')[:80]}")


def _check_values(content: Any) -> None:
    """Refuse values that would need unlimited memory when they are copied, compared or shown."""
    left, count = [(content, 0)], 1
    while left:
        value, depth = left.pop()
        if isinstance(value, torch.Tensor):
            if value.nbytes > value.untyped_storage().nbytes():
                raise _Refused(f"a tensor of shape {tuple(value.shape)} with too few bytes of storage")
        elif isinstance(value, dict | list | tuple):
            count += len(value)
            if count > MAX_VALUES:
                raise _Refused(f"more than {MAX_VALUES} values")
            if depth == MAX_DEPTH:
                raise _Refused(f"more than {MAX_DEPTH} levels of nested values")
            if isinstance(value, dict):
                if not all(isinstance(key, str | int) for key in value):
                    raise _Refused("a key that is neither text nor a number")
                value = value.values()
            left.extend((child, depth + 1) for child in value)
        elif not isinstance(value, str | int | float | None):
            raise _Refused(f"a value of type {type(value).__name__}")
        elif isinstance(value, int) and value.bit_length() > 64:
            raise _Refused("an integer of more than 64 bits")
