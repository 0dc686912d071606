"""`make bench`: run the rooms' benchmarks side by side with their peers and write docs/benchmarks.md.

python -m bench [relay] [stun] [sip] [--quick] [--no-write]
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.report import document, tables

ROOMS = ("relay", "stun", "sip")
ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / ".build" / "benchmarks.json"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rooms", nargs="*", choices=[*ROOMS, []], default=[], help="which ones (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few minutes: fewer rates, shorter runs")
    parser.add_argument("--no-write", action="store_true", help="print only, leave docs/benchmarks.md as it is")
    chosen = parser.parse_args(arguments)
    results: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for room in chosen.rooms or ROOMS:
        print(f"{room}: running …", file=sys.stderr, flush=True)
        begin = time.monotonic()
        rows = importlib.import_module(f"bench.{room}").run(chosen.quick)
        results[room] = {
            "rows": rows,
            "quick": chosen.quick,
            "seconds": round(time.monotonic() - begin),
            "when": time.strftime("%Y-%m-%d %H:%M"),
        }
        print("\n".join(tables(rows)), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))
    if not chosen.no_write:
        OUTPUT.parent.mkdir(exist_ok=True)
        OUTPUT.write_text(document({room: results[room] for room in ROOMS if room in results}))
        print(f"written: {OUTPUT.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
