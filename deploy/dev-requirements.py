"""Print the development dependencies of pyproject.toml, one a line (pip older than 25.1 cannot read groups)."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
print("\n".join(project["dependency-groups"]["dev"]))
