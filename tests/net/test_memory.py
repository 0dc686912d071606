"""Keeping freed memory."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
import numpy as np
from nattrav.net.memory import keep_freed

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        arrays = [np.ones(16384) for _ in range(16)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_freed(1 << 22)
faults()
print(faults())
"""


def test_arrays_that_come_and_go_cause_no_page_faults() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    assert int(told) < 500
