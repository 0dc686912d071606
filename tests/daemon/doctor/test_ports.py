"""Ports on hosts that are in the way, and the remedies typed as they are written, in a namespace of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nattrav.config.load import Document, load
from nattrav.daemon.doctor.findings import Finding, Verdict
from nattrav.daemon.doctor.ports import covers, ports_free, reserved_ports, way_in
from tests.daemon.doctor.test_examinations import WrittenHost

RULES = {
    "nftables": [
        {"chain": {"family": "inet", "table": "f", "name": "in", "type": "filter", "hook": "input", "prio": 0,
                   "policy": "drop"}},
        {"rule": {"family": "inet", "table": "f", "chain": "in", "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}},
                       "right": {"set": [5060, {"range": [30000, 31000]}]}}},
            {"accept": None}]}},
    ]
}  # fmt: skip


def looked(examination: Any, host: WrittenHost, text: str = "") -> dict[str, Finding]:
    return {one.name: one for one in examination(host, load([Document("n.toml", text)]).configuration)}


@pytest.mark.parametrize(
    ("reserved", "covered"),
    [("30000-39999", True), ("30000-34999,35000-40000", True), ("30000-34999", False), ("", False), ("30000", False)],
)
def test_reserved_ranges_are_added_up(reserved: str, covered: bool) -> None:
    assert covers(reserved, 30000, 39999) is covered


def test_every_listener_is_tried_where_it_will_listen() -> None:
    tried: list[tuple[str, str]] = []

    class Noting(WrittenHost):
        def bind_error(self, transport: str, address: Any) -> str | None:
            tried.append((transport, str(address)))
            return None

    text = """
    [sip]
    listen = ["auto", "tls:192.0.2.1"]
    [sip.tls]
    certificate = "/c"
    key = "/k"
    [stun]
    listen = ["192.0.2.1"]
    alternate = ["192.0.2.2"]
    """
    found = looked(ports_free, Noting(), text)
    assert {one.verdict for one in found.values()} == {Verdict.OK}
    wanted = [("udp", "0.0.0.0:5060"), ("tcp", "0.0.0.0:5060"), ("tcp", "192.0.2.1:5061")]
    wanted += [(kind, f"192.0.2.{host}:{port}") for host in "12" for kind in ("udp", "tcp") for port in (3478, 3479)]
    wanted += [("udp", "127.0.0.1:2223"), ("tcp", "127.0.0.1:8080")]
    assert sorted(tried) == sorted(wanted)


def test_services_that_do_not_run_here_want_no_ports() -> None:
    text = "[node]\nservices = ['stun']"
    assert set(looked(ports_free, WrittenHost(), text)) == {
        "port of STUN udp",
        "port of STUN tcp",
        "port of admin http",
    }
    assert looked(reserved_ports, WrittenHost({"/proc/sys/net/ipv4/ip_local_reserved_ports": ""}), text) == {}


def test_rules_that_let_a_part_of_the_media_in_are_found() -> None:
    found = looked(way_in, WrittenHost(rules=json.dumps(RULES)))
    assert found["firewall: SIP udp"].verdict is Verdict.OK
    assert found["firewall: SIP tcp"].verdict is Verdict.FAIL
    assert found["firewall: SIP tcp"].remedy == "nft insert rule inet f in tcp dport 5060 accept"
    assert found["firewall: media"].remedy == "nft insert rule inet f in udp dport 30000-39999 accept"
    narrow = looked(way_in, WrittenHost(rules=json.dumps(RULES)), "[relay]\nports = '30000-31000'")
    assert narrow["firewall: media"].verdict is Verdict.OK


def test_what_cannot_be_read_is_not_called_good() -> None:
    assert looked(way_in, WrittenHost(rules=None))["firewall"].verdict is Verdict.UNKNOWN
    assert looked(way_in, WrittenHost(rules="?"))["firewall"].verdict is Verdict.UNKNOWN
    legacy = WrittenHost({"/proc/net/ip_tables_names": "filter"}, rules=json.dumps({"nftables": []}))
    assert "iptables-legacy" in looked(way_in, legacy)["firewall"].found


SPOILED = """
set -e
ip link set lo up
ip link add spoil0 type veth peer name peer0 && ip addr add 203.0.113.1/24 dev spoil0 && ip link set spoil0 up
ip link add spoil1 type veth peer name peer1 && ip addr add 10.1.1.1/24 dev spoil1 && ip link set spoil1 up
sysctl -qw net.ipv4.ip_local_port_range="20000 50000" net.ipv4.ip_local_reserved_ports=25000
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.spoil0.rp_filter=1
nft add table inet spoiled
nft 'add chain inet spoiled input { type filter hook input priority 0; policy drop; }'
nft add rule inet spoiled input iif lo accept
"""


@pytest.mark.lab
def test_remedies_typed_as_they_are_written_cure_a_spoiled_host(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") is None:
        pytest.skip("needs root and nft: apt install nftables")
    (tmp_path / "n.toml").write_text('[relay]\ninterfaces = ["default/203.0.113.1"]\n')
    examine = f"{sys.executable} -m nattrav.cli --json doctor --config {tmp_path}/n.toml"
    (tmp_path / "try").write_text(
        f"{SPOILED}\nset +e\n{examine} > {tmp_path}/before.json\n"
        f"{sys.executable} -c \"import json; [print(one['remedy']) for one in json.load(open('{tmp_path}/before.json'))"
        f"['items'] if one['remedy'].startswith(('sysctl net.ipv4', 'nft '))]\" > {tmp_path}/remedies\n"
        f"set -e\n. {tmp_path}/remedies\nset +e\n{examine} > {tmp_path}/after.json\n"
    )
    command = ["unshare", "--net", "sh", str(tmp_path / "try")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    before, after = (
        {one["name"]: one["verdict"] for one in json.loads((tmp_path / f"{when}.json").read_text())["items"]}
        for when in ("before", "after")
    )
    spoiled = {
        "relay ports reserved": "warn",
        "reverse path filter": "warn",
        "firewall: SIP udp": "fail",
        "firewall: SIP tcp": "fail",
        "firewall: STUN udp": "fail",
        "firewall: STUN tcp": "fail",
        "firewall: media": "fail",
    }
    assert spoiled.items() <= before.items(), done.stderr
    assert {name: after[name] for name in spoiled} == dict.fromkeys(spoiled, "ok"), done.stderr
