"""Throws mutated messages at every target under tests/fuzz: `python -m tests.fuzz --time 60 [TARGET ...]`.

A target is a module with `target(data: bytes) -> None`, which raises when its stated invariant does not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType

from tests.fuzz.mutation import mutations
from tests.fuzz.seeds import seeds_for

FOLDER = Path(__file__).parent
FOUND = Path(".build/fuzz")
_CHECK_CLOCK = 256


def targets() -> dict[str, ModuleType]:
    """Every target by its name."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        if not path.stem.startswith("_") and not path.stem.startswith("test_"):
            module = importlib.import_module(f"tests.fuzz.{path.stem}")
            if callable(getattr(module, "target", None)):
                found[path.stem] = module
    return found


def run(
    name: str, module: ModuleType, *, seed: int, count: int | None, seconds: float | None
) -> tuple[int, float, bytes | None]:
    """Run one target; give how many inputs it had, in what time, and the input that broke it."""
    target: Callable[[bytes], None] = module.target
    done = 0
    begun = time.monotonic()
    for data in mutations(seeds_for(name, module), Random(f"{name} {seed}")):
        if done == count:
            break
        if seconds is not None and done % _CHECK_CLOCK == 0 and time.monotonic() - begun >= seconds:
            break
        try:
            target(data)
        except Exception:
            traceback.print_exc()
            return done + 1, time.monotonic() - begun, data
        done += 1
    return done, time.monotonic() - begun, None


def main() -> int:
    """Run the chosen targets one after the other; 1 when one broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="names of targets (default: all)")
    parser.add_argument("--time", type=float, help="seconds for each target (default: 10 when no count is given)")
    parser.add_argument("--count", type=int, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1, help="other inputs for another number")
    parser.add_argument("--input", type=Path, help="run one target on one file")
    options = parser.parse_args()
    known = targets()
    chosen = options.targets or list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(known)}")
    if options.input is not None:
        for name in chosen:
            known[name].target(options.input.read_bytes())
        return 0
    seconds = options.time if options.time is not None or options.count is not None else 10.0
    broken = 0
    for name in chosen:
        done, took, culprit = run(name, known[name], seed=options.seed, count=options.count, seconds=seconds)
        rate = done / took if took else 0.0
        print(f"{name:24} {done:>10,} inputs {took:7.1f} s {rate:>9,.0f}/s  {'ok' if culprit is None else 'BROKEN'}")
        if culprit is not None:
            broken += 1
            FOUND.mkdir(parents=True, exist_ok=True)
            path = FOUND / f"{name}-{hashlib.sha256(culprit).hexdigest()[:12]}"
            path.write_bytes(culprit)
            print(f"  again: python -m tests.fuzz {name} --input {path}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
