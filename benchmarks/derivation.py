"""The paths that derivations of a search choose: genetic, exhaustive and dijkstra for each N.

They choose from the searched pool and from the pool at uniform beta, as if the search had learned nothing. The table
shows their latencies, predicted and measured.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import shared

from scripts.search.decoding import gene_pool, pool_overlap
from scripts.search.derive import MAX_PATHS, MIN_PATHS
from scripts.space.trellis import text_of

METHODS = ("genetic", "exhaustive", "dijkstra")


def main() -> None:
    options = shared.parser(__doc__ or "")
    options.add_argument("--search_dir", required=True, type=Path, help="work_dir of the search")
    options.add_argument("--overlay", default="cpu", help="configuration over derive.json")
    arguments = options.parse_args()
    parser, mixings = shared.search_of(arguments.search_dir, arguments.overlay)
    parser.update({"device": arguments.device, "backend": arguments.backend})
    if arguments.precision != "auto":  # otherwise the overlay's setting
        parser["precision"] = arguments.precision
    deriver, judge = (parser.get_parsed_content(key) for key in ("deriver", "judge"))
    result: dict[str, Any] = {"rows": []}
    rows = []
    measured: dict[str, float] = {}
    for pool, mixing in mixings.items():
        for count in range(MIN_PATHS, MAX_PATHS + 1):
            for method in METHODS:
                one = replace(deriver, method=method, fitness="latency", paths=count)
                best = one.propose(mixing, judge.table, judge.space, (count, count))[0]
                ms, weight = best.provenance.predicted_ms, best.provenance.accumulated_weight
                if best.digest not in measured:
                    measured[best.digest] = judge.measure(best).timing.median_ms
                row = {"pool": pool, "paths": count, "method": method, "predicted_ms": ms, "weight": weight}
                row |= {"measured_ms": measured[best.digest], "cells": len(best.union)}
                result["rows"].append({**row, "chosen": list(map(text_of, best.paths))})
                figures = (f"{value:.2f}" for value in (ms, row["measured_ms"], weight))
                rows.append([pool, count, method, *figures, row["cells"]])
    shared.table(["pool", "N", "method", "predicted ms", "measured ms", "accumulated weight", "cells"], rows)
    pools = [gene_pool(mixing, judge.space, deriver.pool_size, deriver.score) for mixing in mixings.values()]
    result["overlap"] = pool_overlap(*pools)
    shared.show(f"{result['overlap']:.0%} of the searched pool's paths are also in the pool at uniform beta")
    shared.finish(result, arguments.json, judge.runtime)


if __name__ == "__main__":
    main()
