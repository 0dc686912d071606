"""Write the dashboards as JSON, or with `--check` say which committed file differs from its source."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: E402
from nattrav_dashboards.panels import Board, build  # noqa: E402

NAMES = ("overview", "sip", "registrations", "media", "capacity", "stun", "control")


def boards() -> list[Board]:
    """Every dashboard as data."""
    return [importlib.import_module(f"nattrav_dashboards.{name}").BOARD for name in NAMES]


def render(board: Board) -> str:
    """One dashboard as the JSON text that is committed."""
    return json.dumps(json.loads(JSONEncoder().encode(build(board))), indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for board in boards():
        path = HERE / "dashboards" / f"{board.name}.json"
        text = render(board)
        if "--check" in arguments:
            if not path.exists() or path.read_text() != text:
                stale.append(path.name)
        else:
            path.write_text(text)
    if stale:
        print(f"out of date: {', '.join(stale)}; run python grafana/build.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
