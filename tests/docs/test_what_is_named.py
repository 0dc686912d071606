"""What the documents tell people to type, to set and to look at exists under that name."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nattrav.cli import output
from nattrav.cli.app import build
from nattrav.config.schema import Configuration
from nattrav.config.write import inner_model
from nattrav.metrics.registry import METRICS

ROOT = Path(__file__).parents[2]
GENERATED = {"cli.md", "metrics.md", "configuration.md"}
DOCUMENTS = sorted(
    path
    for folder in (ROOT, ROOT / "deploy", ROOT / "grafana", ROOT / "docs", ROOT / "docs" / "operations")
    for path in folder.glob("*.md")
    if path.name not in GENERATED
) + sorted((ROOT / "grafana" / "rules").glob("*.yml"))
every_document = pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))


def shown(page: Path) -> Iterator[tuple[str, bool]]:
    """Lines of fenced blocks, and what stands between backticks in a line; True: to be typed as it is."""
    fenced = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            yield line, True
        else:
            yield from ((text, False) for text in re.findall(r"`([^`]+)`", line))


def typed(page: Path, program: str) -> Iterator[tuple[list[str], bool]]:
    """Command lines of a program, without comments, pipes and what wraps them."""
    for text, whole in shown(page):
        line = re.sub(r"\s+#.*$", "", text.strip()).removeprefix("$ ").removeprefix("sudo ")
        for part in re.split(r"\s*(?:\||&&|;)\s*", line):
            if part.split(" ", 1)[0] == program and " " in part and not set("…─") & set(part):
                yield shlex.split(part)[1:], whole


@cache
def tree() -> Any:
    return typer.main.get_command(build(None))


def complaint(words: list[str]) -> str:
    """Walk the words down the tree of commands as the program does; give the kind of error, or nothing."""
    rest, _ = output.take(words)
    command, path = tree(), "nattrav"
    while getattr(command, "commands", None):
        if not rest or rest[0] not in command.commands:
            # A group with a default verb is a command of its own.
            return "" if not rest or rest[0].startswith("-") else "NoSuchCommand"
        command, path, rest = command.commands[rest[0]], f"{path} {rest[0]}", rest[1:]
    try:
        command.make_context(path, list(rest))
    except Exception as error:
        return type(error).__name__
    return ""


@every_document
def test_commands_are_understood_as_they_are_written(page: Path) -> None:
    for words, whole in typed(page, "nattrav"):
        # A sentence may name a command without its arguments; a block is typed as it stands.
        assert complaint(words) in ([""] if whole else ["", "MissingParameter"]), words


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("nothing", "NoSuchCommand"),
        ("sessions lst", "NoSuchCommand"),
        ("drain --forever", "NoSuchOption"),
        ("explain", "MissingParameter"),
        ("bans add 192.0.2.1 x", "UsageError"),
        ("bans add 192.0.2.1 --time 2h", ""),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str, kind: str) -> None:
    assert complaint(line.split()) == kind


@every_document
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words, _ in typed(page, "make"):
        assert words[0] in targets, words


@every_document
def test_files_that_are_named_are_there(page: Path) -> None:
    for text, _ in shown(page):
        for path in re.findall(r"(?<![\w/.-])(?:deploy|grafana|tests|docs|bench|nattrav|relay|stun)/[\w./@-]+\w", text):
            places = (ROOT / path, page.parent / path, ROOT / f"{path}.py")
            assert any(place.exists() for place in places), path
        for module in re.findall(r"python -m ([\w.]+)", text):
            if module.split(".")[0] in ("tests", "bench", "nattrav"):
                assert importlib.util.find_spec(module), module


@every_document
def test_metrics_and_their_labels_exist(page: Path) -> None:
    for name, labels in re.findall(r"(?<![:\w])(nattrav_[a-z0-9_]+)(?![:\w])(?:\{([^}]*)\})?", page.read_text()):
        if name.endswith("_") or name == "nattrav_dashboards" or name[8].isdigit():
            continue
        metric = METRICS.get(re.sub(r"_(bucket|sum|count)$", "", name)) or METRICS.get(name)
        assert metric, name
        assert set(re.findall(r"([a-z]+)(?==|,|$)", labels)) <= {*metric.labels, "le"}, (name, labels)


@every_document
def test_keys_of_the_configuration_exist(page: Path) -> None:
    for table, key in re.findall(r"\[\[?([a-z][a-z.]*)\]?\] ([a-z_]{2,})`", page.read_text()):
        model: Any = Configuration
        for step in table.split("."):
            assert step in model.model_fields, table
            model = inner_model(model.model_fields[step])
        assert key in model.model_fields, f"[{table}] {key}"
