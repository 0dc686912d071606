"""What rules do to packets for our ports; the kernel's own nft writes them down."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nattrav.daemon.doctor.firewall import Ruleset, Way

DEPLOY = Path(__file__).parents[3] / "deploy"
pytestmark = pytest.mark.lab


def closed(*rules: str, more: str = "", policy: str = "drop") -> str:
    """A table as hosts have it: what is not allowed is dropped."""
    usual = ("ct state established,related accept", "iif lo accept") if policy == "drop" else ()
    head = f"type filter hook input priority 0; policy {policy};"
    lines = "\n".join([head, *usual, *rules])
    return f"table inet f {{\n{more}\nchain input {{\n{lines}\n}}\n}}\n"


def opened(*rules: str) -> str:
    """A table that drops only what it names."""
    return closed(*rules, policy="accept")


PORTS = "udp dport { 5060, 30000-39999 } accept"
SET = "set p {\ntype inet_service; flags interval; elements = { 5000-5999 }\n}"
OURS = "chain ours {\nudp dport 5060 accept\n}"
NOT_THIS = "chain ours {\nudp dport 5060 return\nudp dport 5000-6000 accept\n}"
TWO = "chain b {\nudp dport 5060 accept\n}\nchain a {\nmeta l4proto udp jump b\n}"
RAW = "chain pre {\ntype filter hook prerouting priority raw; policy accept;\nudp dport 5060 notrack\n}"
SHIPPED = (DEPLOY / "nftables" / "nattrav.nft").read_text()

CASES = [
    ("", "udp", 5060, Way.OPEN),
    (closed(), "udp", 5060, Way.CLOSED),
    (closed(PORTS), "udp", 5060, Way.OPEN),
    (closed(PORTS), "udp", 35000, Way.OPEN),
    (closed(PORTS), "tcp", 5060, Way.CLOSED),
    (closed("th dport 5060 accept"), "tcp", 5060, Way.OPEN),
    (closed("ip saddr 192.0.2.0/24 udp dport 5060 accept"), "udp", 5060, Way.SOME),
    (closed("icmp type echo-request accept"), "udp", 5060, Way.CLOSED),
    (closed('iifname "eth0" accept'), "udp", 5060, Way.SOME),
    (closed('iifname { "eth0", "lo" } accept'), "udp", 5060, Way.SOME),
    (closed("meta nfproto ipv6 accept"), "udp", 5060, Way.CLOSED),
    (closed("ip protocol { tcp, udp } accept"), "udp", 5060, Way.OPEN),
    (closed("tcp dport vmap { 22 : accept, 5060 : accept }"), "tcp", 5060, Way.OPEN),
    (closed("tcp dport vmap { 22 : accept, 5060 : accept }"), "tcp", 5061, Way.CLOSED),
    (closed("udp dport @p accept", more=SET), "udp", 5060, Way.OPEN),
    (closed("jump ours", more=OURS), "udp", 5060, Way.OPEN),
    (closed("jump ours", more=NOT_THIS), "udp", 5060, Way.CLOSED),
    (closed("jump ours", more=NOT_THIS), "udp", 5061, Way.OPEN),
    (closed("goto ours", PORTS, more=OURS), "udp", 30000, Way.CLOSED),
    (closed("jump a", more=TWO), "udp", 5060, Way.OPEN),
    (closed("ct state untracked accept", more=RAW), "udp", 5060, Way.OPEN),
    (closed("ct state untracked accept", more=RAW), "udp", 5061, Way.CLOSED),
    (opened("udp dport 5060 drop"), "udp", 5060, Way.CLOSED),
    (opened("udp dport 5060 reject"), "udp", 5060, Way.CLOSED),
    (opened("ip saddr 198.51.100.7 drop"), "udp", 5060, Way.OPEN),
    (opened("udp dport 5060 limit rate over 9/second drop"), "udp", 5060, Way.OPEN),
    (opened("udp dport != 5060 drop"), "udp", 5060, Way.OPEN),
    (opened("udp dport != 5060 drop"), "udp", 5061, Way.CLOSED),
    (opened("udp dport != 5060 drop"), "tcp", 5061, Way.OPEN),
    ("table ip6 f {\nchain input {\ntype filter hook input priority 0; policy drop;\n}\n}", "udp", 5060, Way.OPEN),
    (SHIPPED, "udp", 5060, Way.OPEN),
    (SHIPPED, "udp", 30000, Way.OPEN),
    (SHIPPED, "tcp", 8080, Way.OPEN),
]


def kernels_own_words(rules: str, tmp_path: Path) -> str:
    """Load rules in a network namespace of their own, and give how nft writes them down."""
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    if nft is None or os.geteuid() != 0:
        pytest.skip("needs nft and root: apt install nftables")
    (tmp_path / "rules").write_text(rules)
    loaded = f"{nft} -f {tmp_path}/rules && {nft} -j list ruleset"
    return subprocess.run(["unshare", "--net", "sh", "-c", loaded], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("rules", "protocol", "port", "way"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_rules_are_judged_as_the_kernel_reads_them(
    rules: str, protocol: str, port: int, way: Way, tmp_path: Path
) -> None:
    assert Ruleset.parse(kernels_own_words(rules, tmp_path)).judge(protocol, port).way is way


@pytest.mark.parametrize(
    ("rules", "chains"),
    [
        (SHIPPED, []),
        ("", []),
        (closed(), []),
        (
            "table ip n {\nchain p {\ntype nat hook postrouting priority srcnat;\noifname eth0 masquerade\n}\n}\n",
            [("ip", "n", "p")],
        ),
        ("table inet n {\nchain o {\ntype filter hook output priority 0; policy drop;\n}\n}\n", [("inet", "n", "o")]),
        ("table inet n {\nchain o {\ntype filter hook output priority 0;\nudp dport 9 counter accept\n}\n}\n", []),
    ],
    ids=["shipped", "none", "inwards", "masquerade", "policy", "accept"],
)
def test_chains_that_may_change_what_leaves_are_found(
    rules: str, chains: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    assert Ruleset.parse(kernels_own_words(rules, tmp_path)).at_the_way_out() == chains


def test_what_is_no_ruleset_is_refused() -> None:
    for text in ("", "udp dport 5060 notrack", "[]", "{}"):
        with pytest.raises(ValueError, match="no ruleset"):
            Ruleset.parse(text)
