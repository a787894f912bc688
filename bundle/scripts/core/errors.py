"""The error for bad input: it says where it is, what was found, what was expected, and what to do."""

from __future__ import annotations

from pathlib import Path


class CineError(ValueError):
    """Input or configuration that cannot be used.

    Args:
        where: the file, folder or configuration key at fault.
        found: what was found there.
        expected: what would have been accepted.
        action: what the user can do next.
    """

    def __init__(self, where: str | Path, found: str, expected: str, action: str):
        self.where, self.found, self.expected, self.action = str(where), found, expected, action
        super().__init__(f"{where}: found {found}; expected {expected}. {action}")

    def __reduce__(self):
        # a worker process passes the error on by pickling it
        return type(self), (self.where, self.found, self.expected, self.action), self.__dict__


def cine_error_of(error: BaseException) -> CineError | None:
    """The CineError that caused an error (MONAI wraps errors in its own), or None."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CineError):
        cause = cause.__cause__ or cause.__context__
    return cause
