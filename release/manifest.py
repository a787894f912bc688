"""``make manifest``: list the files of the shipped models with their SHA-256."""

from __future__ import annotations

from scripts import BUNDLE_ROOT
from scripts.core.manifest import write

if __name__ == "__main__":
    write(BUNDLE_ROOT / "models")
