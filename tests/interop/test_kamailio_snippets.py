"""The Kamailio snippets in deploy/ are read by Debian's Kamailio, inside small but whole configurations."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.interop

DEPLOY = Path(__file__).parent.parent.parent / "deploy" / "kamailio"
MODULES = (
    "kex",
    "tm",
    "tmx",
    "sl",
    "rr",
    "pv",
    "maxfwd",
    "textops",
    "siputils",
    "xlog",
    "usrloc",
    "registrar",
    "nathelper",
)

HEAD = f"""#!KAMAILIO
listen=udp:127.0.0.1:16099
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
{"".join(f'loadmodule "{name}.so"{chr(10)}' for name in MODULES)}
"""

EDGE = """
request_route {
    route(NATTRAV_REQUEST);
    t_on_branch("X");
    t_on_reply("X");
    t_on_failure("X");
    t_relay();
}
branch_route[X] { route(NATTRAV_BRANCH); }
onreply_route[X] { route(NATTRAV_REPLY); }
failure_route[X] { route(NATTRAV_FAILURE); }
"""

CORE = """
request_route {
    if (is_method("REGISTER")) { route(NATTRAV_REGISTER); exit; }
    if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
    t_relay();
}
"""


@pytest.mark.parametrize(("snippet", "routes"), [("relay.cfg", EDGE), ("core-behind-edge.cfg", CORE)])
def test_kamailio_accepts_the_snippet(snippet: str, routes: str, tmp_path: Path) -> None:
    if shutil.which("kamailio") is None:
        pytest.skip("needs kamailio: apt install kamailio")
    file = tmp_path / "kamailio.cfg"
    file.write_text(f'{HEAD}import_file "{DEPLOY / snippet}"\n{routes}')
    checked = subprocess.run(
        ["kamailio", "-c", "-f", str(file), "-Y", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert checked.returncode == 0, checked.stderr[-2000:]
