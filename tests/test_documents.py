"""README and docs: every command can start, and every snippet of Python runs.

Commands are not executed, which would take days. Their files, keys, values, steps and options are checked as the
command would do it. ``OTHERS`` are other projects' programs; only these are skipped.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch
from documents import DOCUMENTS, ROOT, blocks, commands, load_benchmark, named_blocks_of, simple_commands
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from release.pack import NAME
from scripts import BUNDLE_ROOT
from scripts.run.config_schema import check_values
from scripts.run.start import check_keys
from scripts.runtime.deploy import Runtime
from scripts.space.network import CineNet
from scripts.train import checkpoint

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()  # type: ignore[index]
OTHERS = {
    *(
        "cd",
        "cp",
        "mkdir",
        "git",
        "curl",
        "pip",
        "export",
        ".",
        "sha256sum",
        "docker",
        "rm",
        "echo",
        "touch",
        "ruff",
        "mypy",
    ),
    *("tensorboard", "mlflow", "monailabel", "cyclonedx-py", "pip-licenses", "pip-audit"),
}
COMMANDS = list(commands())


class Parsed(Exception):
    """The benchmark has all options of the command."""


@pytest.fixture
def over(tmp_path) -> Path:
    """The overlay in docs/comparison.md; next to it the configs that docs/extending.md adds."""
    (content,) = blocks(ROOT / "docs" / "comparison.md", "json")
    for language, name, config in named_blocks_of((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")):
        if language == "json":
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(config)
    (tmp_path / "over.json").write_text(content)
    return tmp_path / "over.json"


def existing(name: str, over: Path) -> str:
    """A file of the project in a command: relative to the checkout, to the bundle, or shown by a document."""
    found = next((root / name for root in (over.parent, ROOT, BUNDLE_ROOT) if (root / name).is_file()), None)
    assert found, f"{name} is no file"
    return str(found)


def options_of(words: list[str]) -> dict:
    """Keys and values, as Fire reads them."""
    keys, values = words[::2], words[1::2]
    assert len(keys) == len(values) and all(key.startswith("--") for key in keys), words
    return {key[2:]: DefaultParseValue(value) for key, value in zip(keys, values, strict=True)}


def check_bundle(words: list[str], over: Path) -> None:
    """A command of MONAI: ``run STEP``, or another one with its own arguments."""
    name, *rest = words
    step = rest.pop(0) if name == "run" else None
    options = options_of(rest)
    parameters = inspect.signature(getattr(monai.bundle, name)).parameters
    tracking = options.pop("tracking", None)
    mine = {key: options.pop(key) for key in list(options) if key in parameters}
    given = mine.pop("config_file", [])
    files = [existing(file, over) for file in ([given] if isinstance(given, str) else given)]
    assert files or not options, f"{name} has no {list(options)}"
    if not files:
        return
    check_keys(files, options, tracking=tracking)
    parser = ConfigParser(ConfigParser.load_config_files(files))
    for key, value in options.items():
        parser[key] = value
    check_values(parser.config)
    assert step is None or step in parser.config, f"{step} is no step"


def check_benchmark(script: Path, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts, and has these options."""
    parse = argparse.ArgumentParser.parse_args

    def only(parser, *arguments):
        parse(parser, *arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only)
    module = load_benchmark(script, options, monkeypatch)
    with pytest.raises(Parsed):
        module.main()


def check_command(words: list[str], over: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *rest = words
    program = Path(program).name if program != "." else program
    if program == "torchrun":
        program, rest = "python", rest[rest.index("-m") :]
    if program == "make":
        assert rest[0] in TARGETS
    elif program in ("python", "python3"):
        while rest and rest[0] == "-W":
            del rest[:2]
        if rest[:2] == ["-m", "monai.bundle"]:
            check_bundle(rest[2:], over)
        elif rest[:2] == ["-m", "pip"]:
            pass  # after a look-up of pip, setuptools cannot be loaded in this process
        elif rest[0] == "-m":
            assert importlib.util.find_spec(rest[1]), f"no module {rest[1]}"
        elif rest[0] == "-c":
            ast.parse(rest[1])
        elif rest[0].startswith("benchmarks/"):
            check_benchmark(ROOT / rest[0], rest[1:], monkeypatch)
        else:
            assert (ROOT / rest[0]).is_file(), f"no script {rest[0]}"
    else:
        assert program in OTHERS, f"{program} is unknown"


@pytest.mark.parametrize(("document", "words"), COMMANDS, ids=[f"{n}-{d}" for n, (d, _) in enumerate(COMMANDS)])
def test_every_command_in_the_documents_starts(document, words, over, monkeypatch):
    check_command(words, over, monkeypatch)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_of_make_is_explained_and_its_commands_start(target, over, monkeypatch):
    # all commands, even if their results exist; the tests themselves run within make
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", target, "EVALUATED=w"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), "else make has nothing to do"
    for words in simple_commands(done.stdout, {"PWD": "."}):
        check_command(words, over, monkeypatch)
    if target not in ("install", "lint", "clean"):  # parts of the others
        assert f"# make {target}" in MAKEFILE or f" make {target}" in MAKEFILE.split("\nPYTHON")[0]


def test_only_commands_of_other_programs_are_skipped():
    programs = {Path(words[0]).name for _, words in COMMANDS}
    assert programs - {"make", "python", "python3", "torchrun", ""} <= OTHERS
    ours = [words for _, words in COMMANDS if words[1:3] == ["-m", "monai.bundle"]]
    assert len(COMMANDS) > 80 and len(ours) > 35  # otherwise the commands were not found


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_is_imported_and_explains_itself(script, monkeypatch):
    """Targets without a command are parts of others."""
    text = script.read_text(encoding="utf-8")
    if "def main" in text:
        with pytest.raises(SystemExit, match="0"):
            check_benchmark(script, ["--help"], monkeypatch)
    else:
        assert any(
            re.search(rf"^(import|from) {script.stem}\b", other.read_text(), re.MULTILINE)
            for other in script.parent.glob("*.py")
        )


SNIPPETS = [(path.relative_to(ROOT).as_posix(), code) for path in DOCUMENTS for code in blocks(path, "python")]


def in_evaluation(found: dict) -> None:
    network = found["network"]
    assert not network.training
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 16, 16, 5)).shape == (1, 4, 16, 16, 5)


def a_mask(found: dict) -> None:
    assert found["mask"].shape == found["volume"].shape and found["status"].volumes_ml.keys() == {"RV", "MYO", "LV"}


def a_reply(found: dict) -> None:
    np.testing.assert_array_equal(found["mask_KJI"].transpose(2, 1, 0), found["volume"] > 0)
    assert '"number": 0' in found["result"]


@contextmanager
def a_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service for the client of a snippet, at a free port."""
    pyigtl = pytest.importorskip("pyigtl")
    from serving import running

    with running() as service:
        client = pyigtl.OpenIGTLinkClient
        monkeypatch.setattr(pyigtl, "OpenIGTLinkClient", lambda host, port: client(host, service.port))
        yield


# a part of each snippet, and its expected result
EXPECTED = {
    "Segmenter(": a_mask,
    "pyigtl": a_reply,
    "monai.bundle.load(": in_evaluation,
}


@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")  # MONAI warns about every config
@pytest.mark.parametrize(("document", "code"), SNIPPETS, ids=[f"{n}-{d}" for n, (d, _) in enumerate(SNIPPETS)])
def test_every_snippet_of_python_runs(document, code, architecture, tmp_path, monkeypatch):
    """The shipped bundle is loaded; the stream uses a small network, which needs no compilation."""
    (check,) = [check for part, check in EXPECTED.items() if part in code]
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / NAME).symlink_to(BUNDLE_ROOT)
    architecture.save(tmp_path / "bundle" / "models" / "architecture.json")
    checkpoint.save(tmp_path / "bundle" / "models" / "model.pt", CineNet(architecture).state_dict())
    monkeypatch.setattr("scripts.live.segmenter.choose_runtime", lambda dtype: Runtime("cpu", "float32", "eager"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = {"volume": np.random.default_rng(0).random((154, 224, 7), np.float32), "affine": np.diag([1.8, 1.8, 10, 1])}
    with a_service(monkeypatch) if "pyigtl" in code else nullcontext():
        exec(compile(code, document, "exec"), found)
    check(found)


def test_all_snippets_are_known():
    assert len(SNIPPETS) == len(EXPECTED)
