"""Which paths a search's derivations take: genetic, exhaustive and dijkstra for each N, from the searched pool and from
that at uniform beta, which a search that learned nothing would leave. Predicted by the search's latency table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import shared

from scripts.files import write_json
from scripts.search.derive import FEWEST_PATHS, MOST_PATHS, gene_pool, pool_overlap
from scripts.space.trellis import text_of

METHODS = ("genetic", "exhaustive", "dijkstra")


def main() -> None:
    options = shared.parser(__doc__ or "", runtime=False)
    options.add_argument("--search_dir", required=True, type=Path, help="work_dir of the search")
    options.add_argument("--overlay", default="cpu", help="configuration over derive.json")
    arguments = options.parse_args()
    parser, mixings = shared.search_of(arguments.search_dir, arguments.overlay)
    deriver, table, space = (parser.get_parsed_content(key) for key in ("deriver", "table", "space"))
    result: dict[str, Any] = {"rows": []}
    rows = []
    for pool, mixing in mixings.items():
        for count in range(FEWEST_PATHS, MOST_PATHS + 1):
            for method in METHODS:
                best = replace(deriver, method=method, paths=count).propose(mixing, table, space, count)[0]
                ms, weight = best.provenance["predicted_ms"], best.provenance["accumulated_weight"]
                row = {"pool": pool, "paths": count, "method": method, "predicted_ms": ms, "weight": weight}
                result["rows"].append({**row, "cells": len(best.union), "chosen": list(map(text_of, best.paths))})
                rows.append([pool, count, method, f"{ms:.2f}", f"{weight:.2f}", len(best.union)])
    shared.table(["pool", "N", "method", "predicted ms", "accumulated weight", "cells"], rows)
    pools = [gene_pool(mixing, space, deriver.pool_size, deriver.score) for mixing in mixings.values()]
    result["overlap"] = pool_overlap(*pools)
    shared.show(f"{result['overlap']:.0%} of the searched pool's paths are in that at uniform beta too")
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
