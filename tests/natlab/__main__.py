"""`python -m tests.natlab clean` removes what a killed run left behind; `... list` names it."""

from __future__ import annotations

import os
import sys

from tests.natlab.namespaces import PREFIX, leftovers, remove


def abandoned(names: list[str]) -> list[str]:
    """Those whose laboratory's process is gone."""
    return [name for name in names if not os.path.exists(f"/proc/{name.removeprefix(PREFIX).split('x')[0]}")]


def main(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else "list"
    found = leftovers()
    if verb == "clean":
        gone = found if "--all" in arguments else abandoned(found)
        remove(gone)
        print(f"{len(gone)} namespaces removed, {len(found) - len(gone)} in use by a laboratory that runs")
        return 0
    if verb == "list":
        print("\n".join(found) if found else "no laboratory namespace")
        return 0
    print("usage: python -m tests.natlab [list | clean [--all]]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
