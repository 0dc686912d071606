from __future__ import annotations

import importlib.util
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
