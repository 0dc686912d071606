"""Snippets for OpenSIPS and Asterisk, which no Debian 12 package can check: their structure, and what nattrav needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
OPENSIPS = sorted((DEPLOY / "opensips").glob("*.cfg"))
ASTERISK = DEPLOY / "asterisk" / "pjsip-behind-edge.conf"


def without_comments_and_strings(text: str) -> str:
    return re.sub(r'"(?:\\.|[^"\\])*"', '""', re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE))


@pytest.mark.parametrize("file", OPENSIPS, ids=lambda file: file.name)
def test_an_opensips_snippet_is_balanced_and_calls_only_routes_it_has(file: Path) -> None:
    text = without_comments_and_strings(file.read_text())
    for opening, closing in ("()", "{}", "[]"):
        assert text.count(opening) == text.count(closing), opening
    defined = set(re.findall(r"^route\[(\w+)\]", text, re.MULTILINE))
    assert defined
    assert set(re.findall(r"\broute\((\w+)\)", text)) <= defined
    body = [line.strip() for line in text.splitlines() if line.strip()]
    plain = [line for line in body if line[-1] not in "{};" and not line.startswith(("loadmodule", "modparam"))]
    assert plain == [], "a statement without its semicolon"


def test_the_core_repeats_the_path_so_that_the_edge_knows_it_is_kept() -> None:
    assert 'save("location", "path-lazy")' in (DEPLOY / "opensips" / "core-behind-edge.cfg").read_text()
    assert '"path_mode", 1' in (DEPLOY / "kamailio" / "core-behind-edge.cfg").read_text()
    assert "support_path=yes" in ASTERISK.read_text()


def sections() -> list[tuple[str, str, dict[str, str]]]:
    """Sections of the Asterisk file: name, what stands in parentheses, its settings."""
    found: list[tuple[str, str, dict[str, str]]] = []
    for raw in ASTERISK.read_text().splitlines():
        line = raw.partition(";")[0].strip()
        head = re.fullmatch(r"\[([\w-]+)\](?:\(([\w!,-]+)\))?", line)
        if head is not None:
            found.append((head[1], head[2] or "", {}))
        elif line:
            name, equals, value = line.partition("=")
            assert equals, line
            found[-1][2][name] = value
    return found


def test_asterisks_sections_have_types_and_templates_that_exist() -> None:
    templates = {name: settings for name, mark, settings in sections() if "!" in mark}
    for name, mark, settings in sections():
        base = templates.get(mark, {})
        assert mark in ("", "!") or mark in templates, name
        assert settings.get("type") or base.get("type"), name


def test_asterisk_leaves_contacts_and_media_to_the_edge() -> None:
    (phone,) = (settings for name, mark, settings in sections() if (name, mark) == ("phone", "!"))
    wanted = {"direct_media": "no", "rewrite_contact": "no", "rtp_symmetric": "no", "force_rport": "no"}
    assert wanted.items() <= phone.items()
