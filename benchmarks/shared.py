"""Common parts of the benchmarks: the bundle's path, the real configuration's space, tables on screen and in files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "bundle"))

from monai.bundle import ConfigParser

from scripts import BUNDLE_ROOT
from scripts.core.json_files import write_json
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.search.history import load_history
from scripts.search.relaxation import uniform_mixing
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.space import Space


def parser(description: str, runtime: bool = True) -> argparse.ArgumentParser:
    """The options of every benchmark, and those of the runtime if it has one."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    if runtime:
        options.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda:0")
        options.add_argument("--backend", default="auto", help="how networks run; auto is the fastest here")
        options.add_argument(
            "--precision", default="auto", help="precision of the network; auto is the fastest float precision here"
        )
    return options


def configured_space(overlay: str | None = None) -> Space:
    """The space of profile.json, or of an overlay."""
    config = ConfigParser.load_config_files(config_files("profile", *([overlay] if overlay else [])))["space"]
    return Space(**{key: value for key, value in config.items() if key != "_target_"})


def config_files(*names: str) -> list[str]:
    """The paths of some configs of the bundle."""
    return [str(BUNDLE_ROOT / "configs" / f"{name}.json") for name in names]


def search_of(folder: Path, overlay: str) -> tuple[ConfigParser, dict[str, Mixing]]:
    """The input of the step derive from a search: its configuration, and two sets of mixing weights.

    They are the searched ones, and the same with the initial topology ("uniform beta").
    """
    parser = ConfigParser(ConfigParser.load_config_files(config_files("derive", overlay)))
    parser["work_dir"] = str(folder)
    space = parser.get_parsed_content("space")
    searched = Mixing.from_lists(load_history(folder)["epochs"][-1]["mixing"], space)
    return parser, {"searched": searched, "uniform beta": Mixing(searched.nodes, uniform_mixing(space).cells)}


def hand_drawn(space: Space) -> Architecture:
    """An unsearched network of the space: four nested paths of plain convolutions."""
    convolutions = ((0, "conv_3x3x3"), (1, "conv_3x3x1"))
    cells = {
        "contracting": convolutions,
        "expanding": convolutions,
        "non_scaling": ((0, "conv_3x3x3"), (0, "identity")),
    }
    paths = ((0, 1, 2, 3, 2, 1, 0), (0, 1, 2, 2, 2, 1, 0), (0, 1, 1, 1, 1, 1, 0), (0,) * 7)
    return Architecture(space, cells, paths)  # type: ignore[arg-type]


def show(text: str) -> None:
    """Print, in a program whose output is its result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print aligned columns."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        show(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )


def finish(result: dict[str, Any], file: str | None, runtime: Runtime) -> None:
    """Write the figures with their device and runtime."""
    result = {**result, "device": describe_device(runtime.device), "runtime": runtime.describe()}
    show(f"on {json.dumps(result['device'])}, {json.dumps(result['runtime'])}")
    if file:
        write_json(file, result)
