from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nattrav.config.load import Document, load
from nattrav.config.schema import Configuration
from nattrav.daemon.doctor.examinations import examine
from nattrav.daemon.doctor.findings import Finding, Verdict
from nattrav.daemon.doctor.host import ThisHost
from nattrav.net.address import TransportAddress, classify
from nattrav.net.certificate import not_after
from nattrav.net.interfaces import InterfaceAddress

GOOD_FILES = {
    "/proc/sys/net/ipv4/ip_local_port_range": "32768\t60999",
    "/proc/sys/net/ipv4/ip_local_reserved_ports": "30000-39999",
    "/proc/sys/net/ipv4/conf/all/rp_filter": "2",
    "/proc/sys/net/core/rmem_max": "67108864",
    "/proc/sys/net/core/wmem_max": "67108864",
    "/proc/sys/net/core/netdev_max_backlog": "250000",
    "/proc/sys/net/unix/max_dgram_qlen": "512",
    "/proc/modules": "nf_tables 1 0 - Live 0x0",
}


@dataclass
class WrittenHost:
    """A host as a test describes it; by default nothing is wrong with it."""

    files: dict[str, str] = field(default_factory=dict)
    version: tuple[int, int] = (6, 1)
    descriptors: int = 262_144
    uring: str | None = None
    bpf: str | None = None
    rights: frozenset[str] = frozenset({"CAP_BPF", "CAP_NET_ADMIN"})
    devices: dict[str, tuple[str, str]] = field(default_factory=dict)
    synchronised: bool | None = True
    hosts: tuple[str, ...] = ("203.0.113.1", "127.0.0.1")
    taken: frozenset[int] = frozenset()
    rules: str | None = '{"nftables": []}'
    modules: dict[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    time: float = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def read(self, path: str) -> str | None:
        return (GOOD_FILES | self.files).get(path)

    def kernel(self) -> tuple[int, int]:
        return self.version

    def open_files(self) -> int:
        return self.descriptors

    def io_uring(self) -> str | None:
        return self.uring

    def xdp(self) -> str | None:
        return self.bpf

    def xdp_on(self, interface: str) -> tuple[str, str]:
        return self.devices.get(interface, ("virtio_net", ""))

    def capabilities(self) -> frozenset[str]:
        return self.rights

    def clock_synchronised(self) -> bool | None:
        return self.synchronised

    def addresses(self) -> Sequence[InterfaceAddress]:
        return [InterfaceAddress(f"eth{at}", host, classify(host)) for at, host in enumerate(self.hosts)]

    def bind_error(self, transport: str, address: TransportAddress) -> str | None:
        return "Address already in use" if address.port in self.taken else None

    def ruleset(self) -> str | None:
        return self.rules

    def module_file(self, name: str) -> str | None:
        return self.modules.get(name, f"/opt/nattrav/lib/{name}/__init__.py")

    def resolves(self, name: str) -> bool:
        return name in self.names


def configured(text: str = "") -> Configuration:
    return load([Document("nattrav.toml", text)]).configuration


def findings(host: WrittenHost, text: str = "", *, running: bool = False) -> dict[str, Finding]:
    return {one.name: one for one in examine(host, configured(text), running=running)}


def test_frames_that_pass_by_rules_are_told_of_where_frames_are_wanted() -> None:
    rules = """{"nftables": [
        {"chain": {"family": "ip", "table": "t", "name": "o", "hook": "output", "prio": 0, "policy": "drop"}}
    ]}"""
    found = findings(WrittenHost(rules=rules), '[relay]\ntransmit = "frame"\n')["firewall: frames"]
    assert (found.verdict, "ip t o" in found.found) == (Verdict.WARN, True)
    assert "firewall: frames" not in findings(WrittenHost(rules=rules))
    assert "firewall: frames" not in findings(WrittenHost(), '[relay]\ntransmit = "frame"\n')


def test_a_good_host_has_nothing_to_complain_about() -> None:
    found = findings(WrittenHost())
    assert {one.verdict for one in found.values()} == {Verdict.OK}
    assert len(found) >= 14


@pytest.mark.parametrize(
    ("host", "name", "verdict", "words"),
    [
        (WrittenHost(hosts=("10.0.0.5",)), "advertised address", Verdict.WARN, "ADDRESS!PUBLIC"),
        (WrittenHost(taken=frozenset({5060})), "port of SIP udp", Verdict.FAIL, "ss -lunp"),
        (WrittenHost(taken=frozenset({3478})), "port of STUN udp", Verdict.FAIL, "[stun] listen"),
        (WrittenHost(taken=frozenset({8080})), "port of admin http", Verdict.FAIL, "ss -ltnp"),
        (
            WrittenHost({"/proc/sys/net/ipv4/ip_local_reserved_ports": "8000-8010"}),
            "relay ports reserved",
            Verdict.WARN,
            "ip_local_reserved_ports=8000-8010,30000-39999",
        ),
        (WrittenHost({"/proc/sys/net/core/rmem_max": "212992"}), "net.core.rmem_max", Verdict.WARN, "=67108864"),
        (WrittenHost({"/proc/sys/net/unix/max_dgram_qlen": "10"}), "net.unix.max_dgram_qlen", Verdict.WARN, "=512"),
        (WrittenHost(descriptors=1024), "open files", Verdict.WARN, "LimitNOFILE=14096"),
        (WrittenHost(uring="Operation not permitted"), "io_uring", Verdict.WARN, "kernel.io_uring_disabled"),
        (WrittenHost(version=(4, 19)), "XDP", Verdict.WARN, "5.18"),
        (WrittenHost(rights=frozenset()), "XDP", Verdict.UNKNOWN, ""),
        (WrittenHost(bpf="libbpf.so.1 is not installed"), "XDP", Verdict.UNKNOWN, ""),
        (
            WrittenHost({"/proc/modules": "nf_nat_sip 1 0\nnf_conntrack_sip 1 1"}),
            "SIP helper of the firewall",
            Verdict.FAIL,
            "modprobe -r nf_nat_sip nf_conntrack_sip",
        ),
        (
            WrittenHost({"/proc/sys/net/netfilter/nf_conntrack_max": "65536"}),
            "connection tracking",
            Verdict.WARN,
            "notrack",
        ),
        (WrittenHost(synchronised=False), "clock", Verdict.WARN, "chrony"),
        (WrittenHost(synchronised=None), "clock", Verdict.UNKNOWN, ""),
        (
            WrittenHost(modules={"stun": "/usr/lib/python3/dist-packages/stun/__init__.py"}),
            "Python package stun",
            Verdict.FAIL,
            "virtual environment",
        ),
        (
            WrittenHost({"/proc/sys/net/ipv4/conf/all/rp_filter": "1"}, hosts=("203.0.113.1", "10.0.0.1")),
            "reverse path filter",
            Verdict.WARN,
            "rp_filter=2",
        ),
    ],
)
def test_each_hindrance_is_found_with_its_remedy(host: WrittenHost, name: str, verdict: Verdict, words: str) -> None:
    found = findings(host)[name]
    assert found.verdict is verdict
    assert words in found.remedy
    assert found.found


def test_strictness_of_one_interface_is_enough_to_lose_packets() -> None:
    one = {"/proc/sys/net/ipv4/conf/all/rp_filter": "0", "/proc/sys/net/ipv4/conf/eth1/rp_filter": "1"}
    two_hosts = ("203.0.113.1", "10.0.0.1")
    found = findings(WrittenHost(one, hosts=two_hosts))["reverse path filter"]
    assert found.verdict is Verdict.WARN
    assert "eth1" in found.found
    loose = findings(WrittenHost(one | {"/proc/sys/net/ipv4/conf/all/rp_filter": "2"}, hosts=two_hosts))
    assert loose["reverse path filter"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("setting", "rules", "verdict"),
    [
        ("0", '{"nftables": []}', Verdict.OK),
        ("1", '{"nftables": []}', Verdict.FAIL),
        ("0", '{"nftables": [{"ct helper": {"family": "ip", "type": "sip"}}]}', Verdict.WARN),
    ],
)
def test_a_sip_helper_that_is_part_of_the_kernel_counts_when_it_is_assigned(
    setting: str, rules: str, verdict: Verdict
) -> None:
    files = {"/sys/module/nf_conntrack_sip/parameters/ports": "5060"}
    files["/proc/sys/net/netfilter/nf_conntrack_helper"] = setting
    found = findings(WrittenHost(files, rules=rules))["SIP helper of the firewall"]
    assert found.verdict is verdict
    assert bool(found.remedy) is (verdict is not Verdict.OK)


def test_each_interface_has_its_own_descriptors_and_ranges() -> None:
    text = "[relay]\ninterfaces = ['a/10.0.0.1', 'b/10.0.0.2']\ninterface_ports = { b = '50000-59999' }"
    found = findings(WrittenHost(descriptors=20_000), text)
    assert "LimitNOFILE=24096" in found["open files"].remedy
    assert "30000-39999,50000-59999" in found["relay ports reserved"].remedy


def test_auto_takes_descriptors_for_both_families() -> None:
    hosts = ("203.0.113.1", "2001:db8::1", "fe80::1")
    assert findings(WrittenHost(descriptors=20_000))["open files"].verdict is Verdict.OK
    found = findings(WrittenHost(descriptors=20_000, hosts=hosts))["open files"]
    assert "LimitNOFILE=24096" in found.remedy
    one = "[relay]\ninterfaces = ['default/203.0.113.1']"
    assert findings(WrittenHost(descriptors=20_000, hosts=hosts), one)["open files"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("days", "verdict", "words"),
    [(-1, Verdict.FAIL, "ended"), (5, Verdict.WARN, "in 5 days"), (90, Verdict.OK, "for 90 days")],
)
def test_a_certificate_that_ends_is_a_finding(days: int, verdict: Verdict, words: str, tmp_path: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=edge", "-out", str(tmp_path / "c.pem"), "-keyout", str(tmp_path / "k.pem")]
    subprocess.run(command, check=True, capture_output=True)
    pem = (tmp_path / "c.pem").read_text()
    host = WrittenHost({"/c.pem": pem, "/k.pem": "x"}, time=not_after(pem) - days * 86_400)
    for section, name in (("sip.tls", "TLS certificate"), ("stun", "TLS certificate of STUN")):
        prefix = "tls_" if section == "stun" else ""
        text = f"[{section}]\n{prefix}certificate = '/c.pem'\n{prefix}key = '/k.pem'"
        found = findings(host, text)[name]
        assert found.verdict is verdict, found
        assert words in found.found
        assert bool(found.remedy) is (verdict is not Verdict.OK)


def test_a_file_that_is_no_certificate_is_a_finding() -> None:
    found = findings(WrittenHost({"/c.pem": "x", "/k.pem": "x"}), "[sip.tls]\ncertificate = '/c.pem'\nkey = '/k.pem'")
    assert found["TLS certificate"].verdict is Verdict.FAIL


def test_notrack_rules_excuse_a_small_table() -> None:
    host = WrittenHost({"/proc/sys/net/netfilter/nf_conntrack_max": "65536"}, rules="udp dport 5060 notrack")
    assert findings(host)["connection tracking"].verdict is Verdict.OK


def test_a_running_bundle_holds_its_ports_itself() -> None:
    assert not any(name.startswith("port of") for name in findings(WrittenHost(taken=frozenset({5060})), running=True))


def test_upstream_names_and_certificates_are_looked_at() -> None:
    text = """
    [[upstream]]
    name = "known"
    target = "gw.example.com:5080"
    [[upstream]]
    name = "unknown"
    target = "typo.example.com"
    [[upstream]]
    name = "address"
    target = "192.0.2.1"
    [sip.tls]
    certificate = "/etc/nattrav/absent.pem"
    key = "/etc/nattrav/key.pem"
    """
    found = findings(WrittenHost({"/etc/nattrav/key.pem": "x"}, names=frozenset({"gw.example.com"})), text)
    assert found["name of upstream known"].verdict is Verdict.OK
    assert found["name of upstream unknown"].verdict is Verdict.FAIL
    assert "name of upstream address" not in found
    assert found["TLS certificate"].verdict is Verdict.FAIL
    assert found["TLS key"].verdict is Verdict.OK


def test_this_very_host_can_be_examined() -> None:
    assert list(examine(ThisHost(), Configuration(), running=False))


@pytest.mark.parametrize(("offload", "verdict"), [("auto", Verdict.WARN), ("xdp", Verdict.FAIL)])
def test_a_kernel_path_that_is_asked_for_and_not_possible_is_a_finding(offload: str, verdict: Verdict) -> None:
    host = WrittenHost({"/proc/sys/net/ipv4/conf/lo/forwarding": "0"}, bpf="libbpf.so.1 is not installed")
    found = findings(host, f'[relay]\noffload = "{offload}"\n')
    assert found["XDP"].verdict is verdict
    assert "kernel-plane.conf" in (found["XDP"].remedy or "")
    assert "lo.forwarding=1" in (found["XDP routes"].remedy or "")
