"""Kamailio and relays of ours as processes on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.rtpengines import Peer
from tests.interop.talkers import Talker

SHIPPED = Path("/etc/kamailio/kamailio.cfg")
SNIPPET = Path(__file__).parent.parent.parent / "deploy" / "kamailio" / "relay.cfg"
MODULES = ["kex", "tm", "tmx", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "usrloc", "registrar", "nathelper"]
AROUND_SNIPPET = f"""#!KAMAILIO
#!define NATTRAV_SOCKET "udp:127.0.0.1:2223"
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
{"".join(f'loadmodule "{name}.so"{chr(10)}' for name in MODULES)}
modparam("registrar|nathelper", "received_avp", "$avp(received)")
modparam("rr", "append_fromtag", 1)
import_file "{SNIPPET}"
request_route {{
    force_rport();
    if (is_method("REGISTER")) {{ fix_nated_register(); save("location"); exit; }}
    if (nat_uac_test("19")) {{ set_contact_alias(); }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) {{ route(NATTRAV_REQUEST); t_relay(); }} exit; }}
    if (has_totag()) {{
        if (loose_route()) {{
            if ($du == "") {{ handle_ruri_alias(); }}
            route(NATTRAV_REQUEST);
            route(ON);
        }} else if (is_method("ACK") && t_check_trans()) {{ t_relay(); }}
        exit;
    }}
    t_check_trans();
    record_route();
    if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
    t_on_branch("X");
    t_on_failure("X");
    route(ON);
}}
route[ON] {{ t_on_reply("X"); t_relay(); }}
branch_route[X] {{ route(NATTRAV_BRANCH); }}
onreply_route[X] {{
    if (nat_uac_test("1")) {{ set_contact_alias(); }}
    route(NATTRAV_REPLY);
}}
failure_route[X] {{ route(NATTRAV_FAILURE); }}
"""


@contextmanager
def our_relay(directory: Path, ports: range, *, sessions: int = 0) -> Iterator[Peer]:
    """Run `nattrav relay serve`; `sessions` limits how many it takes (0: no limit)."""
    directory.mkdir(parents=True, exist_ok=True)
    ng = _free_port(16200)
    configuration = directory / "nattrav.toml"
    configuration.write_text(f"[relay]\nmax_sessions = {sessions}\n")
    process = _start(
        [
            *(str(Path(sys.executable).parent / "nattrav"), "relay", "serve", f"--runtime-dir={directory}"),
            *("--interface=public/127.0.0.1", f"--listen-ng=127.0.0.1:{ng}", "--threads=1"),
            *(f"--port-min={ports.start}", f"--port-max={ports.stop - 1}", f"--config={configuration}"),
        ],
        directory / "relay.log",
    )
    peer = Peer(ng)
    try:
        _wait(lambda: peer.ask("ping", {}) == {"result": "pong"}, directory / "relay.log")
        yield peer
    finally:
        peer.close()
        process.terminate()
        process.wait(10)


@contextmanager
def kamailio(directory: Path, text: str, relays: list[Peer]) -> Iterator[tuple[str, int]]:
    """Run Kamailio with a configuration whose ng socket is replaced; give its SIP address."""
    if shutil.which("kamailio") is None or not SHIPPED.exists():
        pytest.skip("needs kamailio: apt install kamailio")
    directory.mkdir(parents=True, exist_ok=True)
    sip = _free_port(16060)
    assert "udp:127.0.0.1:2223" in text
    configuration = directory / "kamailio.cfg"
    sockets = " ".join(f"udp:127.0.0.1:{relay.port}" for relay in relays)
    configuration.write_text(text.replace("udp:127.0.0.1:2223", sockets))
    process = _start(
        [
            *("kamailio", "-f", str(configuration), "-A", "WITH_NAT", "-A", "WITH_RTPENGINE"),
            *("-l", f"udp:127.0.0.1:{sip}", "-DD", "-E", "-Y", str(directory), "-P", str(directory / "pid")),
            *("-n", "2", "-m", "64", "-M", "8"),
        ],
        directory / "kamailio.log",
    )
    probe = Talker("probe", ("127.0.0.1", sip), "10.9.9.9")
    probe.sip.settimeout(0.2)
    try:
        _wait(lambda: probe.register().status == 200, directory / "kamailio.log")
        yield "127.0.0.1", sip
    finally:
        probe.close()
        process.terminate()
        process.wait(10)


def _start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        environment = {**os.environ, "NATTRAV_STATE_DIR": str(log.parent / "state")}
        return subprocess.Popen(words, stdout=out, stderr=out, env=environment)


def _wait(ready: Callable[[], bool], log: Path) -> None:
    for _ in range(100):
        try:
            if ready():
                return
        except (ConnectionRefusedError, TimeoutError):
            pass
        time.sleep(0.1)
    pytest.fail(f"not ready: {log.read_text()[-2000:]}")


def _free_port(first: int) -> int:
    for port in range(first, first + 99):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.fail("no free port")
