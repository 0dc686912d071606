"""Write the files that are made from the code: manuals of metrics, commands and configuration, and the default file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nattrav.cli import completion_scripts, manual
from nattrav.cli import document as cli
from nattrav.config import document as configuration
from nattrav.config.write import default_file
from nattrav.metrics import document as metrics

ROOT = Path(__file__).parent.parent


def files() -> Iterator[tuple[Path, str]]:
    """Give every generated file and what belongs into it."""
    yield ROOT / "deploy" / "nattrav.toml", default_file()
    yield ROOT / "docs" / "configuration.md", configuration.page()
    yield ROOT / "deploy" / "man" / "nattrav.1", manual.commands_page()
    yield ROOT / "deploy" / "man" / "nattrav.toml.5", manual.configuration_page()
    yield ROOT / "docs" / "metrics.md", metrics.page()
    yield ROOT / "docs" / "cli.md", cli.page()
    for shell, text in completion_scripts.scripts().items():
        yield ROOT / "nattrav" / "cli" / "completions" / f"nattrav.{shell}", text


if __name__ == "__main__":
    for path, text in files():
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
