"""Who may import whom, and where sockets, clocks, files and randomness may live (ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("nattrav", "relay", "stun")

# Lower number = lower floor. A module imports its own floor's room or any lower floor, never a higher one.
FLOORS = {
    "nattrav.net": 0,
    "relay": 1,
    "stun": 1,
    "nattrav.sip": 2,
    "nattrav.sdp": 2,
    "nattrav.location": 2,
    "nattrav.config": 2,
    "nattrav.metrics": 2,
    "nattrav.control": 3,
    "nattrav.proxy": 4,
    "nattrav.selftest": 5,
    "nattrav.daemon": 5,
    "nattrav.cli": 6,
}
# The wire of phones and of media know nothing of each other, and configuration knows none of them.
FORBIDDEN = {
    ("relay", "stun"),
    ("stun", "relay"),
    ("nattrav.sip", "relay"),
    ("nattrav.sip", "stun"),
    ("nattrav.sdp", "relay"),
    ("nattrav.sdp", "stun"),
    ("nattrav.sdp", "nattrav.sip"),
    ("nattrav.sip", "nattrav.sdp"),
    ("nattrav.config", "relay"),
    ("nattrav.config", "stun"),
    ("nattrav.config", "nattrav.sip"),
    ("nattrav.metrics", "relay"),
    ("nattrav.metrics", "stun"),
    ("nattrav.metrics", "nattrav.sip"),
    ("nattrav.proxy", "relay"),
}
IO_MODULES = {
    "socket",
    "select",
    "selectors",
    "ssl",
    "time",
    "random",
    "secrets",
    "os",
    "io",
    "shutil",
    "tempfile",
    "sqlite3",
    "subprocess",
    "threading",
    "multiprocessing",
    "signal",
    "trio",
    "asyncio",
    "http",
    "urllib",
    "structlog",
    "logging",
}
IO_ROOMS = ("nattrav.net", "nattrav.daemon", "nattrav.cli")


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(p for p in parts if p != "__init__"), path))
    return found


def imports(path: Path) -> list[tuple[str, int]]:
    """Imports that run; those under `if TYPE_CHECKING:` count too, for a type is knowledge as well."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def room(module: str) -> str | None:
    for name in FLOORS:
        if module == name or module.startswith(name + "."):
            return name
    return None


def may_do_io(module: str) -> bool:
    parts = module.split(".")
    return module.startswith(IO_ROOMS) or "io" in parts


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_imports_only_its_own_floor_and_lower_ones(module: str, path: Path) -> None:
    here = room(module)
    if here is None:
        assert module == "nattrav" or module in PACKAGES
        return
    for name, line in imports(path):
        there = room(name)
        if there is None or there == here:
            continue
        assert FLOORS[there] <= FLOORS[here], f"{path}:{line}: {here} imports {there}, which stands higher"
        assert (here, there) not in FORBIDDEN, f"{path}:{line}: {here} must not know {there}"


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_only_shells_touch_sockets_clocks_files_and_randomness(module: str, path: Path) -> None:
    if may_do_io(module):
        return
    touched = [f"{path}:{line}: {name}" for name, line in imports(path) if name.split(".")[0] in IO_MODULES]
    assert not touched, touched


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_names_say_what_a_file_is_about(module: str, path: Path) -> None:
    forbidden = {"utils", "util", "helpers", "common", "misc", "manager", "base"}
    assert not forbidden & set(module.split(".")), f"{path}: say what is in it"
