"""The shipped nftables file with packets through it: floods are cut, ng and admin are hidden, media is not tracked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RULES = Path(__file__).parents[2] / "deploy" / "nftables" / "nattrav.nft"
pytestmark = pytest.mark.lab

SCRIPT = """
set -e
mount -t tmpfs none /run
ip netns add client
ip link set lo up
ip link add edge type veth peer name phone netns client
ip addr add 198.51.100.1/24 dev edge && ip -6 addr add 2001:db8:1::1/48 dev edge nodad && ip link set edge up
for host in 2 3; do ip -n client addr add 198.51.100.$host/24 dev phone; done
for net in 2 3; do ip -n client -6 addr add 2001:db8:1:$net::9/48 dev phone nodad; done
ip -n client -6 addr add 2001:db8:1:2::10/48 dev phone nodad
ip -n client link set phone up
{nft} -f {rules}
{nft} 'table inet tracking {{
  chain input {{ type filter hook input priority 10; ct state new counter accept; }}
}}'
{python} {here}/edge.py > {here}/seen.json &
edge=$!
while ! [ -e {here}/listening ]; do kill -0 $edge; sleep 0.05; done
ip netns exec client {python} {here}/client.py
kill -INT $edge
wait $edge
conntrack -L -p udp > {here}/tracked 2> /dev/null
"""

EDGE = """
import json, selectors, signal, socket, pathlib  # 33 is SO_RCVBUFFORCE
seen, selector = {}, selectors.DefaultSelector()
for family, host in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8:1::1")):
    for port in (5060, 30000, 2223, 9999):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)
        sock.bind((host, port))
        selector.register(sock, selectors.EVENT_READ, port)
    admin = socket.create_server((host, 8080), family=family)
pathlib.Path("{here}/listening").touch()
def end(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, end)
try:
    while True:
        for key, _ in selector.select():
            source = key.fileobj.recvfrom(2048)[1][0]
            name = f"{source} {key.data}"
            seen[name] = seen.get(name, 0) + 1
except KeyboardInterrupt:
    print(json.dumps(seen))
"""

CLIENT = """
import socket, time
for family, edge, flooders, other in (
    (socket.AF_INET, "198.51.100.1", ["198.51.100.2"], "198.51.100.3"),
    (socket.AF_INET6, "2001:db8:1::1", ["2001:db8:1:2::9", "2001:db8:1:2::10"], "2001:db8:1:3::9"),
):
    def send(source, port, count):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((source, 0))
        for _ in range(count):
            sock.sendto(b"x", (edge, port))
    send(other, 9999, 1)
    for flooder in flooders:
        send(flooder, 5060, 3000)
    send(other, 5060, 20)
    send(other, 30000, 500)
    send(other, 2223, 5)
    probe = socket.socket(family)
    probe.settimeout(0.4)
    try:
        probe.connect((edge, 8080))
        raise SystemExit("the admin listener is open to all")
    except OSError:
        pass
time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], str]:
    nft = shutil.which("nft", path="/usr/sbin:/sbin")
    if nft is None or os.geteuid() != 0 or shutil.which("conntrack", path="/usr/sbin:/sbin") is None:
        pytest.skip("needs root, nft and conntrack: apt install nftables conntrack")
    here = tmp_path_factory.mktemp("firewall")
    (here / "edge.py").write_text(EDGE.replace("{here}", str(here)))
    (here / "client.py").write_text(CLIENT)
    script = SCRIPT.format(nft=nft, rules=RULES, python=sys.executable, here=here)
    command = ["unshare", "--net", "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen: Any = json.loads((here / "seen.json").read_text())
    return seen, (here / "tracked").read_text()


def test_a_flood_of_sip_from_one_source_is_cut_and_others_are_heard(result: tuple[dict[str, int], str]) -> None:
    seen, _ = result
    assert 400 <= seen["198.51.100.2 5060"] < 1500
    assert seen["198.51.100.3 5060"] == 20


def test_an_ipv6_network_is_one_source(result: tuple[dict[str, int], str]) -> None:
    seen, _ = result
    both = sum(seen.get(f"2001:db8:1:2::{host} 5060", 0) for host in ("9", "10"))
    assert 400 <= both < 2000
    assert seen["2001:db8:1:3::9 5060"] == 20


def test_media_passes_and_ng_is_hidden(result: tuple[dict[str, int], str]) -> None:
    seen, _ = result
    assert seen["198.51.100.3 30000"] == seen["2001:db8:1:3::9 30000"] == 500
    assert not [name for name in seen if name.endswith(" 2223")]


def test_sip_and_media_take_no_entries_of_connection_tracking(result: tuple[dict[str, int], str]) -> None:
    _, tracked = result
    assert "dport=9999" in tracked
    assert "dport=5060" not in tracked
    assert "dport=30000" not in tracked
