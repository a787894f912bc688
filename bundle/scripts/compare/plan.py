"""The steps of a comparison: each is a command that a user could type, in its own folder.

The last configuration file of a step, ``settings_STEP.json``, has the settings that all steps share (exams, fold,
device ...), so that the quoting rules of a shell do not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from scripts import BUNDLE_ROOT
from scripts.compare.entries import Network, Search, read_networks, read_searches
from scripts.core.errors import CineError
from scripts.core.json_files import write_json
from scripts.run.start import check_keys
from scripts.search.constraint import Constraint
from scripts.search.history import load_history
from scripts.space.architecture import Architecture
from scripts.space.space import Space

CONFIGS = BUNDLE_ROOT / "configs"
# a network with a given number of paths is not refused but shown with its misses, as in the papers' tables
UNBOUND = {"enforced": False}


@dataclass(frozen=True)
class Step:
    """One command.

    Args:
        step: the id of the step that it runs.
        owner: the search or network that it belongs to.
        folder: its work_dir.
        files: configurations except the settings.
        settings: values that override them.
        inputs: files of earlier steps; if they change, it runs again.
        output: a file or folder that exists when it is done.
    """

    step: str
    owner: str
    folder: Path
    files: tuple[str, ...]
    settings: Mapping[str, Any]
    inputs: tuple[Path, ...]
    output: Path

    def write_settings(self) -> list[str]:
        """Write the settings; returns all configuration files, these last."""
        path = self.folder / f"settings_{self.step}.json"
        write_json(path, self.settings)
        return [*self.files, str(path)]


@dataclass(frozen=True)
class Plan:
    """All runs of a comparison.

    Args:
        work_dir: the folder of ``searches/NAME`` and ``networks/NAME``.
        searches: a dict each, with name and perhaps configs, overlays and overrides; see ``Search``.
        networks: a dict each, with name, system and origin; see ``Network``.
        settings: settings that all steps share.
        overlays: configurations over those of every step: names in ``bundle/configs``, or paths.
        overrides: plain values over those of every step.
    """

    work_dir: str
    searches: Sequence[Mapping[str, Any]]
    networks: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    overlays: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def entries(self) -> list[Network]:
        """The networks, in the order of the tables; raises the CineError of ``read_networks``."""
        return read_networks(self.work_dir, self.networks, read_searches(self.work_dir, self.searches))

    @cached_property
    def used_searches(self) -> list[Search]:
        """The searches that networks use."""
        return list({n.search.name: n.search for n in self.entries if n.search and n.searched}.values())

    @cached_property
    def constraint(self) -> Constraint:
        """The constraint for all networks; its budget may be "auto"."""
        return Constraint(self.settings["budget_ms"], self.settings["volumes_per_second"])

    def resolved_constraint(self) -> Constraint | None:
        """The constraint, with "auto" replaced by the budget of the first search that has one; None if none has."""
        if self.constraint.budget_ms != "auto":
            return self.constraint
        for search in self.used_searches:
            if search.history_file.exists():
                return replace(self.constraint, budget_ms=load_history(search.folder)["budget_ms"])
            if search.architecture_file.exists():  # of a search without mixing weights
                found = Architecture.load(search.architecture_file).provenance.number("budget_ms")
                return replace(self.constraint, budget_ms=found)
        return None

    @cached_property
    def steps(self) -> list[Step]:
        """All steps, after checks: CineError names an invalid budget, overlay or size, or a key that no step has."""
        assert self.constraint
        for search in self.used_searches:
            self.check_size(f"search {search.name}", self.space_of(search))
        steps = [self.search_step(search) for search in self.used_searches]
        steps += [step for network in self.entries for step in self.steps_of(network)]
        for step in steps:
            check_keys(step.write_settings(), {})
        unused = {k: v for k, v in self.overrides.items() if not any(k in step.settings for step in steps)}
        check_keys(list(steps[-1].files), unused)
        return steps

    def search_step(self, search: Search) -> Step:
        files = self._search_files("search", search)
        settings = self._of_search(search, files)
        return Step("search", search.name, search.folder, files, settings, (), search.architecture_file)

    def steps_of(self, network: Network) -> list[Step]:
        """The steps of a network in order: derive, if it is derived; train; evaluate."""
        name, folder = network.name, network.folder
        steps = []
        if network.derive is not None:
            assert network.search is not None
            unbound = {} if network.derive.get("paths", "auto") == "auto" else UNBOUND
            files = self._search_files("derive", network.search)
            settings = {**self._of_search(network.search, files), **unbound, **network.derive, "work_dir": str(folder)}
            output = network.architecture_file
            steps.append(Step("derive", name, folder, files, settings, (network.history_file,), output))
        inputs = () if network.baseline else (network.architecture_file,)
        files = train, *others = self._network_files(network)
        model = folder / "model.pt"
        settings = {**self.settings, **self._reaching(files), "work_dir": str(folder)}
        steps.append(Step("train", name, folder, files, settings, inputs, model))
        files, inputs = (train, *_config_files("evaluate"), *others), (*inputs, model)
        settings = {**self.settings, **self._reaching(files), "work_dir": str(folder)}
        return [*steps, Step("evaluate", name, folder, files, settings, inputs, folder / "metrics.json")]

    def _network_files(self, network: Network) -> tuple[str, ...]:
        return _config_files("train", *self.overlays, *([f"baseline_{network.baseline}"] if network.baseline else []))

    def _of_search(self, search: Search, files: tuple[str, ...]) -> dict[str, Any]:
        own = {"work_dir": str(search.folder), "latency_file": self.latency_file(search)}
        return {**self.settings, **own, **self._reaching(files), **search.overrides}

    def _reaching(self, files: tuple[str, ...]) -> dict[str, Any]:
        """The overrides of keys that a step has, so that other changes do not repeat a completed step."""
        known = ConfigParser.load_config_files(list(files))
        return {key: value for key, value in self.overrides.items() if key.split("#")[0] in known}

    def latency_file(self, search: Search) -> str:
        """The latency table of a search; searches of one space share it, since it takes minutes to measure."""
        digest = hashlib.sha256(repr(self.space_of(search)).encode()).hexdigest()[:8]
        return str(Path(self.work_dir) / f"latency_{digest}.json")

    def space_of(self, search: Search | None = None) -> Space:
        """The space of a search; None: that of the shared configuration."""
        files = self._search_files("search", search)
        return _parsed(files, {**self.overrides, **(search.overrides if search else {})}, "space")

    def _search_files(self, step: str, search: Search | None) -> tuple[str, ...]:
        configs, overlays = (search.configs, search.overlays) if search else ((), ())
        return _config_files(step, *configs, *self.overlays, *overlays)

    @cached_property
    def deployment_size(self) -> tuple[int, int, int]:
        """H W D in voxels of the volume for which latency is measured, the same for all networks."""
        return self.space_of().deployment_size

    def check_size(self, where: str, space: Space) -> None:
        """CineError if a space has another deployment size: its predictions would not fit the measurements."""
        if space.deployment_size != self.deployment_size:
            found, expected = (
                f"deployment_size {list(space.deployment_size)}",
                f"{list(self.deployment_size)}, like the others",
            )
            raise CineError(where, found, expected, "Set one size in overlays or overrides, which all share.")

    @cached_property
    def train_epochs(self) -> int:
        """The training budget, the same for all networks."""
        return _parsed(_config_files("train", *self.overlays), self.overrides, "train_epochs")

    def build(self, network: Network) -> nn.Module:
        """The network as the step train builds it, with random weights."""
        return _parsed(self._network_files(network), {"work_dir": str(network.folder)}, "network_def")


def _config_files(*names: str) -> tuple[str, ...]:
    return tuple(map(_config_file, names))


def _config_file(name: str) -> str:
    shipped = CONFIGS / f"{name}.json"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        expected = "the name of a configuration of this bundle, without .json, or a path"
        raise CineError("overlays", repr(name), expected, "Correct the name.")
    return str(path)


def _parsed(files: Sequence[str], overrides: Mapping[str, Any], key: str) -> Any:
    parser = ConfigParser(ConfigParser.load_config_files(list(files)))
    for name, value in overrides.items():  # also nested keys, such as space#layers
        parser[name] = value
    return parser.get_parsed_content(key)
