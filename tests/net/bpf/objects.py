"""Builds BPF objects for tests, and says why a test that needs the kernel cannot run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nattrav.net.bpf.libbpf import refusal

ROOT = Path(__file__).parent.parent.parent.parent


def need_bpf() -> None:
    """Skip where this process may not load XDP programs."""
    reason = refusal()
    if reason is not None:
        pytest.skip(f"BPF: {reason}")


def built(source: str, into: Path) -> bytes:
    """Compile a source of this tree; skip without clang."""
    missing = [name for name in ("clang", "llvm-strip") if shutil.which(name) is None]
    if missing or not Path("/usr/include/bpf/bpf_helpers.h").exists():
        pytest.skip(f"{', '.join(missing) or 'libbpf-dev'} is not installed")
    result = into / (Path(source).stem + ".o")
    environment = os.environ | {"LC_ALL": "C"}
    command = ["sh", "deploy/build-bpf.sh", source, str(result)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return result.read_bytes()
