from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def generated() -> list[tuple[Path, str]]:
    specification = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return list(module.files())


@pytest.mark.parametrize(("path", "text"), generated(), ids=lambda value: value.name if isinstance(value, Path) else "")
def test_files_made_from_the_code_are_up_to_date(path: Path, text: str) -> None:
    assert path.read_text() == text, "run 'make generated'"


@pytest.mark.parametrize("page", ["nattrav.1", "nattrav.toml.5"])
def test_manual_pages_are_good_roff(page: str) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("needs groff: apt install groff-base")
    path = ROOT / "deploy" / "man" / page
    done = subprocess.run([groff, "-man", "-Tutf8", "-Kutf8", "-ww", path], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) > 10_000
