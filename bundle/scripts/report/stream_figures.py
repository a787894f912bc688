"""Figure of a stream: the latency of every volume over time, compared with the deadline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scripts.cine import STRUCTURES
from scripts.report.style import STRUCTURE_COLOURS, save_figure, tidy


def report_stream(result: Mapping[str, Any]) -> None:
    """Draw the result of ``stream_cine`` as ``NAME_stream.png``, next to its other results."""
    save_figure(stream_figure(result), f"{result['output']}_stream.png")


def stream_figure(result: Mapping[str, Any]) -> Figure:
    """Latency over time, its distribution, and the volumes of the masks.

    Args:
        result: as in ``NAME_stream.json``: summary, rate and records.
    """
    summary, records = result["summary"], result["records"]
    times_s = np.array([record["arrived_s"] for record in records])
    latencies = np.array([record["latency_ms"] for record in records])
    network = np.array([record["status"]["network_ms"] for record in records])
    whole = np.array([record["status"]["whole_field"] for record in records])
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplot_mosaic("TTTS;VVVS")
    deadline = summary["deadline_ms"]
    axes["T"].plot(times_s, latencies, ".", color="#0072b2", markersize=3, label="arrival to mask")
    axes["T"].plot(times_s, network, ".", color="#999999", markersize=2, label="only network")
    axes["T"].plot(times_s[whole], latencies[whole], "o", mfc="none", color="#d55e00", label="whole field of view")
    axes["T"].axhline(deadline, color="black", linewidth=1, linestyle="--", label=f"deadline, {deadline:g} ms")
    axes["T"].set_ylim(0, max(1.2 * deadline, 1.05 * float(np.percentile(latencies, 99.5))))
    axes["T"].legend(fontsize=8, loc="upper right", ncols=4)
    rate = "as fast as possible" if result["rate"] is None else f"{result['rate']:g} a second"
    title = f"{summary['volumes']} volumes at {rate}: {summary['missed']} late, {summary['dropped']} dropped"
    tidy(axes["T"], "", "ms", title)
    ordered = np.sort(latencies[1:] if len(latencies) > 1 else latencies)
    axes["S"].plot(ordered, np.arange(1, len(ordered) + 1) / len(ordered), color="#0072b2")
    axes["S"].axvline(deadline, color="black", linewidth=1, linestyle="--")
    axes["S"].set_ylim(0, 1)
    percentiles = f"p50 {summary['p50_ms']:.1f}, p95 {summary['p95_ms']:.1f} ms"
    tidy(axes["S"], "arrival to mask, ms", "share of volumes", percentiles)
    for name in STRUCTURES:
        volumes_ml = [record["status"]["volumes_ml"][name] for record in records]
        axes["V"].plot(times_s, volumes_ml, color=STRUCTURE_COLOURS[name], linewidth=1, label=name)
    axes["V"].legend(fontsize=8, loc="upper right", ncols=3)
    tidy(axes["V"], "arrival, s", "ml", "Volumes of the masks")
    return figure
