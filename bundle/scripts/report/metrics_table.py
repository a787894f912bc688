"""The summary of an evaluation as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.cine import STRUCTURES
from scripts.report.agreement import format_agreement
from scripts.report.label_order import format_hint


def format_summary(summary: Mapping[str, Any]) -> str:
    """The summary as a table for the terminal."""
    phases = list(summary["dice"]["RV"])
    means = {f"level {name}": table["mean"] for name, table in summary["dice_by_level"].items()}
    if len(summary["dice_by_group"]) > 1:
        means |= {f"group {name}": table["mean"] for name, table in summary["dice_by_group"].items()}
    first = max(map(len, means))
    lines = [" " * first + "".join(f"{'Dice ' + phase:>16}" for phase in phases) + f"{'HD95 mm':>16}"]
    for structure in (name for name in STRUCTURES if name not in _never_labelled(summary)):
        cells = [cell(summary["dice"][structure][phase], 3) for phase in phases]
        cells.append(cell(summary["hd95_mm"][structure]["all"], 1))
        lines.append(f"{structure:{first}}" + "".join(f"{cell:>16}" for cell in cells))
    for name, mean in means.items():
        lines.append(f"{name:{first}}" + "".join(f"{cell(mean[phase], 3):>16}" for phase in phases))
    lines.append(f"mean Dice {cell(summary['dice']['mean'], 3)} over {summary['patients']} patients")
    lines += missing_labels(summary)
    if "label_map_hint" in summary:
        lines.append(format_hint(summary["label_map_hint"]))
    if summary.get("read_by_search"):
        lines.append(f"{summary['read_by_search']} of these exams were read by the search, so they are not unseen")
    if summary["function"]["patients"]:
        lines.append(format_agreement(summary["function"]["agreement"]))
    if "latency" in summary:
        lines.append(_latency_line(summary["latency"]))
    return "\n".join(lines)


def missing_labels(summary: Mapping[str, Any]) -> list[str]:
    """Sentences about structures and exams without reference labels; none if everything is labelled."""
    never = _never_labelled(summary)
    counts = {
        f"Exams without a label of {name}": (count, f"{name} is not scored there")
        for name, count in summary.get("not_labelled", {}).items()
        if name not in never
    }
    partly, without = summary.get("partly_labelled", 0), summary.get("without_label", 0)
    counts["Exams that are partly labelled"] = partly, "only their labelled slices count, and no volumes are compared"
    counts["Exams without any label"] = without, "they are not scored"
    sentences = [f"None of these exams has a label of {name}: it is not in means and tables." for name in never]
    return sentences + [f"{text}: {count}; {meaning}." for text, (count, meaning) in counts.items() if count]


def _never_labelled(summary: Mapping[str, Any]) -> list[str]:
    """The structures without a label in any scored exam."""
    lacking = summary.get("not_labelled", {})
    return [name for name, count in lacking.items() if count and not summary["dice"][name]["all"]["count"]]


def _latency_line(latency: Mapping[str, Any]) -> str:
    line = f"latency {latency['median_ms']:.2f} ms a volume of {'x'.join(map(str, latency['deployment_size']))}"
    line += f" (p95 {latency['p95_ms']:.2f}), {latency['volumes_per_second']:.1f} volumes a second"
    if latency["predicted_ms"] is not None:
        line += f"; predicted {latency['predicted_ms']:.2f} ms"
    if latency["budget_ms"] is not None:
        needed = latency["volumes_per_second_required"] or 0
        fast, met = (
            timing["p95_ms"] <= latency["budget_ms"] and 1000 / timing["mean_ms"] >= needed
            for timing in (latency, latency["met"])
        )
        slowed = f"met in the device's fast state, not over all visits now (p95 {latency['met']['p95_ms']:.2f} ms)"
        missed = "not met" if latency["fast_visits"] else "not judged, since the device was never in its fast state"
        verdict = ("met" if met else slowed) if fast else missed
        rate = f" and {needed:g} volumes a second" if needed else ""
        line += f"; budget {latency['budget_ms']:.2f} ms{rate}: {verdict}"
    return line


def cell(statistics: Mapping[str, Any], digits: int) -> str:
    """Mean ± standard deviation, if known."""
    if statistics["mean"] is None:
        return "-"
    spread = "" if statistics["std"] is None else f" ± {statistics['std']:.{digits}f}"
    return f"{statistics['mean']:.{digits}f}{spread}"
