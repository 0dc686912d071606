from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from nattrav.config.load import Document, load
from nattrav.config.schema import Configuration
from nattrav.daemon.doctor.examinations import _covers, examine
from nattrav.daemon.doctor.findings import Finding, Verdict
from nattrav.daemon.doctor.host import ThisHost
from nattrav.net.address import TransportAddress, classify
from nattrav.net.interfaces import InterfaceAddress

GOOD_FILES = {
    "/proc/sys/net/ipv4/ip_local_port_range": "32768\t60999",
    "/proc/sys/net/ipv4/ip_local_reserved_ports": "30000-39999",
    "/proc/sys/net/ipv4/conf/all/rp_filter": "2",
    "/proc/sys/net/core/rmem_max": "67108864",
    "/proc/sys/net/core/wmem_max": "67108864",
    "/proc/sys/net/core/netdev_max_backlog": "250000",
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
    synchronised: bool | None = True
    hosts: tuple[str, ...] = ("203.0.113.1", "127.0.0.1")
    taken: frozenset[int] = frozenset()
    rules: str | None = None
    modules: dict[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

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


def test_a_good_host_has_nothing_to_complain_about() -> None:
    found = findings(WrittenHost())
    assert {one.verdict for one in found.values()} == {Verdict.OK}
    assert len(found) >= 14


@pytest.mark.parametrize(
    ("host", "name", "verdict", "words"),
    [
        (WrittenHost(hosts=("10.0.0.5",)), "advertised address", Verdict.WARN, "ADDRESS!PUBLIC"),
        (WrittenHost(taken=frozenset({5060})), "port of SIP udp", Verdict.FAIL, "ss -lunp"),
        (WrittenHost(taken=frozenset({3478})), "port of STUN", Verdict.FAIL, "[stun] port"),
        (WrittenHost(taken=frozenset({8080})), "port of admin", Verdict.FAIL, "ss -ltnp"),
        (
            WrittenHost({"/proc/sys/net/ipv4/ip_local_reserved_ports": "8000-8010"}),
            "relay ports reserved",
            Verdict.WARN,
            "ip_local_reserved_ports=8000-8010,30000-39999",
        ),
        (WrittenHost({"/proc/sys/net/core/rmem_max": "212992"}), "net.core.rmem_max", Verdict.WARN, "=67108864"),
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


@pytest.mark.parametrize(
    ("reserved", "covered"),
    [("30000-39999", True), ("30000-34999,35000-40000", True), ("30000-34999", False), ("", False), ("30000", False)],
)
def test_reserved_ranges_are_added_up(reserved: str, covered: bool) -> None:
    assert _covers(reserved, 30000, 39999) is covered


def test_this_very_host_can_be_examined() -> None:
    assert list(examine(ThisHost(), Configuration(), running=False))


@pytest.mark.parametrize(("offload", "verdict"), [("auto", Verdict.WARN), ("xdp", Verdict.FAIL)])
def test_a_kernel_path_that_is_asked_for_and_not_possible_is_a_finding(offload: str, verdict: Verdict) -> None:
    host = WrittenHost({"/proc/sys/net/ipv4/conf/lo/forwarding": "0"}, bpf="libbpf.so.1 is not installed")
    found = findings(host, f'[relay]\noffload = "{offload}"\n')
    assert found["XDP"].verdict is verdict
    assert "kernel-plane.conf" in (found["XDP"].remedy or "")
    assert "lo.forwarding=1" in (found["XDP routes"].remedy or "")


@pytest.mark.parametrize(
    ("interfaces", "told"),
    [
        (("[]", "[]"), True),
        (('["eth0"]', "[]"), True),
        (('["eth0"]', '["eth0", "eth1"]'), True),
        (('["eth0"]', '["eth1"]'), False),
    ],
)
def test_two_services_cannot_have_programs_on_one_interface(interfaces: tuple[str, str], told: bool) -> None:
    text = "".join(
        f'[{name}]\noffload = "auto"\noffload_interfaces = {own}\n'
        for name, own in zip(("relay", "stun"), interfaces, strict=True)
    )
    assert ("XDP of two services" in findings(WrittenHost(), text)) is told
