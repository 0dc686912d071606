"""`python -m tests.grafana.pictures`: the dashboards' pictures in docs/images, drawn from a bundle with real calls."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from watched import PROMETHEUS, watched  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, watched(Path(folder)) as edge:
        for number in range(5):
            edge.call(f"again{number}", 18)
            for _ in range(8):
                edge.traffic()
                time.sleep(1)
        command = [sys.executable, ROOT / "grafana/render.py", f"http://127.0.0.1:{PROMETHEUS}", ROOT / "docs/images"]
        subprocess.run([*command, "--minutes", "1.3"], check=True)


if __name__ == "__main__":
    main()
