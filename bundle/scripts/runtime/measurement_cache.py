"""Values that are measured once per device, and kept in the user's cache until the device or the software changes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from scripts.core.cache import cached
from scripts.core.distributed import on_main
from scripts.core.errors import CineError
from scripts.core.json_files import read_json, write_json

logger = logging.getLogger(__name__)


@on_main
def measured_once(
    name: str,
    version: str,
    described: dict[str, Any],
    choices: Collection[str],
    measure: Callable[[], dict[str, float]],
) -> dict[str, float]:
    """ms of each choice that runs here, from the cache or from a measurement now.

    Args:
        name: what is measured; the file's name begins with it.
        version: the ``format`` of the file.
        described: everything that the measurement depends on: device, versions, settings.
        choices: the allowed keys of the result.
        measure: called if the cache has no file for ``described``, or a damaged one.
    """
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    path = cached(f"{name}-{digest}.json")
    schema = {
        "type": "object",
        "required": ["format", "median_ms"],
        "properties": {
            "format": {"const": version},
            "median_ms": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"enum": list(choices)},
                "additionalProperties": {"type": "number", "exclusiveMinimum": 0},
            },
        },
    }
    with suppress(CineError, OSError):  # no file yet, or a damaged one
        return read_json(path, schema, "Delete it.")["median_ms"]
    median_ms = measure()
    shown = ", ".join(f"{choice} {ms:.2f}" for choice, ms in sorted(median_ms.items(), key=lambda pair: pair[1]))
    logger.info("Measured once on this device (%s), ms: %s", name, shown)
    try:
        write_json(path, {"format": version, **described, "median_ms": median_ms})
    except (CineError, OSError) as error:  # for example, a read-only home folder
        logger.warning("This measurement cannot be saved and is repeated each time (%s)", error)
    return median_ms
