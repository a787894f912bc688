"""How a stream went: the latency of every volume over time, against the deadline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scripts.cine import STRUCTURES
from scripts.report.style import STRUCTURE_COLOURS, save_figure, tidy


def report_stream(result: Mapping[str, Any]) -> None:
    """Draw what ``stream_cine`` returned, beside its other results, as ``NAME_stream.png``."""
    save_figure(stream_figure(result), f"{result['output']}_stream.png")


def stream_figure(result: Mapping[str, Any]) -> Figure:
    """Latency over time, its distribution, and the volumes that the masks have.

    Args:
        result: as in ``NAME_stream.json``: summary, rate and records.
    """
    summary, records = result["summary"], result["records"]
    times_s = np.array([record["arrived_s"] for record in records])
    latencies = np.array([record["latency_ms"] for record in records])
    network = np.array([record["status"]["network_ms"] for record in records])
    whole = np.array([record["status"]["whole_field"] for record in records])
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplot_mosaic([["time", "time", "time", "share"], ["volume"] * 3 + ["share"]])
    deadline = summary["deadline_ms"]
    axes["time"].plot(times_s, latencies, ".", color="#0072b2", markersize=3, label="arrival to mask")
    axes["time"].plot(times_s, network, ".", color="#999999", markersize=2, label="network alone")
    axes["time"].plot(times_s[whole], latencies[whole], "o", mfc="none", color="#d55e00", label="whole field of view")
    axes["time"].axhline(deadline, color="black", linewidth=1, linestyle="--", label=f"deadline, {deadline:g} ms")
    axes["time"].set_ylim(0, max(1.2 * deadline, 1.05 * float(np.percentile(latencies, 99.5))))
    axes["time"].legend(fontsize=8, loc="upper right", ncols=4)
    rate = "as fast as it goes" if result["rate"] is None else f"{result['rate']:g} a second"
    title = f"{summary['volumes']} volumes at {rate}: {summary['missed']} late, {summary['dropped']} dropped"
    tidy(axes["time"], "", "ms", title)
    ordered = np.sort(latencies[1:] if len(latencies) > 1 else latencies)
    axes["share"].plot(ordered, np.arange(1, len(ordered) + 1) / len(ordered), color="#0072b2")
    axes["share"].axvline(deadline, color="black", linewidth=1, linestyle="--")
    axes["share"].set_ylim(0, 1)
    tidy(
        axes["share"],
        "arrival to mask, ms",
        "share of volumes",
        f"p50 {summary['p50_ms']:.1f}, p95 {summary['p95_ms']:.1f} ms",
    )
    for name in STRUCTURES:
        volumes_ml = [record["status"]["volumes_ml"][name] for record in records]
        axes["volume"].plot(times_s, volumes_ml, color=STRUCTURE_COLOURS[name], linewidth=1, label=name)
    axes["volume"].legend(fontsize=8, loc="upper right", ncols=3)
    tidy(axes["volume"], "arrival, s", "ml", "Volumes of the masks")
    return figure
