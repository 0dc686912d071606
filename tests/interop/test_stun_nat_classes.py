"""NAT classes in the laboratory: our probe, the server's record and foreign clients agree, on our server and coturn."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.natlab import namespaces
from tests.natlab.laboratory import BUNDLE, BUNDLE_SECOND, Laboratory, Subscriber
from tests.natlab.namespaces import Program
from tests.natlab.nats import Kind

pytestmark = [pytest.mark.lab, pytest.mark.slow]

NATTRAV = (sys.executable, "-m", "nattrav.cli")
ROOT = Path(__file__).parents[2]
KINDS = (
    Kind.OPEN,
    Kind.FULL_CONE,
    Kind.RESTRICTED_CONE,
    Kind.PORT_RESTRICTED,
    Kind.SYMMETRIC,
    Kind.SYMMETRIC_FIREWALL,
    Kind.UDP_BLOCKED,
    Kind.CARRIER_GRADE,
)
LABELS = {
    Kind.OPEN: "open",
    Kind.FULL_CONE: "full cone",
    Kind.RESTRICTED_CONE: "restricted cone",
    Kind.PORT_RESTRICTED: "port restricted cone",
    Kind.SYMMETRIC: "symmetric",
    Kind.SYMMETRIC_FIREWALL: "symmetric firewall",
    Kind.UDP_BLOCKED: "UDP blocked",
    Kind.CARRIER_GRADE: "symmetric",
}
# What a server can tell of a client that does not report its own address.
SEEN = {
    **LABELS,
    Kind.OPEN: "full cone or open",
    Kind.FULL_CONE: "full cone or open",
    Kind.RESTRICTED_CONE: "restricted cone or symmetric firewall",
    Kind.PORT_RESTRICTED: "port restricted cone or symmetric firewall",
    Kind.SYMMETRIC_FIREWALL: "port restricted cone or symmetric firewall",
}
COTURN, COTURN_SECOND = "203.0.113.10", "203.0.113.11"


@dataclass
class Site:
    """The laboratory with our server in it."""

    laboratory: Laboratory
    server: Program
    runtime: Path
    serial: int = 0
    probing: dict[Kind, Subscriber] = field(default_factory=dict)
    """Households for our own probe; the laboratory has no room for one of each kind per test."""

    def subscribers(self, kinds: Sequence[Kind] = KINDS) -> dict[Kind, Subscriber]:
        """A fresh household of each kind."""
        self.serial += 1
        return {k: self.laboratory.subscriber(f"s{self.serial}-{k.value.replace('_', '-')}", k) for k in kinds}

    def record(self, public: str) -> str:
        """The name the server's record gives an address."""
        command = [*NATTRAV, "nat", "show", public, "--json", "--runtime-dir", str(self.runtime)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        return str(json.loads(done.stdout)["classic_name"]) if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    reason = namespaces.missing()
    if reason:
        pytest.skip(reason)
    with Laboratory(tmp_path_factory.mktemp("stun-laboratory")) as laboratory:
        runtime = laboratory.directory / "run"
        server = laboratory.bundle.namespace.start(
            *(*NATTRAV, "stun", "serve", "--listen", BUNDLE, "--alternate", BUNDLE_SECOND),
            *("--runtime-dir", str(runtime)),
            name="stun",
        )
        server.wait_listening("tcp", 3478, 20)
        yield Site(laboratory, server, runtime)
        assert "Traceback" not in server.output()


def together(households: dict[Kind, Subscriber], command: Callable[[Subscriber], Sequence[str]]) -> dict[Kind, str]:
    """Run one client in every household at the same time; gives what each printed."""
    running = {
        kind: subprocess.Popen(
            ["ip", "netns", "exec", household.phone.namespace.name, "timeout", "60", *command(household)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        for kind, household in households.items()
    }
    return {kind: process.communicate(timeout=90)[0] for kind, process in running.items()}


def needs(program: str, package: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}: apt install {package}")


def show(title: str, found: dict[Kind, str]) -> None:
    print(f"\n{title}")
    for kind, name in found.items():
        print(f"  {kind.value:<20}{name}")


def losing(name: str, which: str, percent: int) -> str:
    """Rules that lose some of the datagrams which arrive; kernels without netem have them too."""
    return f"""
table ip loss-{name} {{
    chain arrive {{
        type filter hook prerouting priority -300;
        ip protocol udp {which} numgen random mod 100 < {percent} drop
    }}
}}
"""


def report_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_our_probe_and_the_servers_record_name_every_kind(site: Site) -> None:
    households = site.probing = site.subscribers()
    outputs = together(households, lambda _: [*NATTRAV, "stun", "probe", BUNDLE, "--tcp", "--json"])
    reports = {kind: report_of(text) for kind, text in outputs.items()}
    found = {kind: report["classic_name"] for kind, report in reports.items()}
    show("our probe", found)
    assert found == LABELS
    assert reports[Kind.OPEN]["needs_relay"] is False
    assert reports[Kind.SYMMETRIC]["needs_relay"] is True
    assert reports[Kind.UDP_BLOCKED]["tcp_mapped_address"].startswith(households[Kind.UDP_BLOCKED].public)
    for kind, report in reports.items():
        many = kind in (Kind.SYMMETRIC, Kind.CARRIER_GRADE)
        assert report["tcp_mapping"] == ("address-and-port-dependent" if many else "endpoint-independent"), kind
    assert all(not r["undetermined"] for k, r in reports.items() if k is not Kind.UDP_BLOCKED)
    time.sleep(4.5)
    records = {k: site.record(h.public) for k, h in households.items() if k is not Kind.UDP_BLOCKED}
    show("the server's record of our probe", records)
    assert records == {kind: label for kind, label in LABELS.items() if kind is not Kind.UDP_BLOCKED}


@pytest.mark.interop
def test_debians_classic_client_and_the_servers_record_of_it(site: Site) -> None:
    needs("stun", "stun-client")
    households = site.subscribers()
    outputs = together(households, lambda _: ["stun", BUNDLE])
    found = {
        k: m.group(1) if (m := re.search(r"Primary: (.+?)\s*$", t, re.MULTILINE)) else t for k, t in outputs.items()
    }
    show("stun-client", found)
    for kind, words in {
        Kind.OPEN: "Open",
        Kind.FULL_CONE: "Independent Mapping, Independent Filter",
        Kind.RESTRICTED_CONE: "Independent Mapping, Address Dependent Filter",
        Kind.PORT_RESTRICTED: "Independent Mapping, Port Dependent Filter",
        Kind.SYMMETRIC: "Dependent Mapping",
        Kind.SYMMETRIC_FIREWALL: "Firewall",
        Kind.UDP_BLOCKED: "Blocked",
        Kind.CARRIER_GRADE: "Dependent Mapping",
    }.items():
        assert found[kind].startswith(words), (kind, outputs[kind])
    time.sleep(4.5)
    records = {k: site.record(h.public) for k, h in households.items() if k is not Kind.UDP_BLOCKED}
    show("the server's record of stun-client", records)
    assert records == {kind: label for kind, label in SEEN.items() if kind is not Kind.UDP_BLOCKED}


@pytest.mark.interop
def test_coturns_natdiscovery_names_mapping_and_filtering(site: Site) -> None:
    needs("turnutils_natdiscovery", "coturn")
    households = site.subscribers([kind for kind in KINDS if kind is not Kind.UDP_BLOCKED])
    outputs = together(
        households, lambda h: ["turnutils_natdiscovery", "-m", "-f", "-L", h.phone.address, "-p", "3478", BUNDLE]
    )
    show("turnutils_natdiscovery", {k: " / ".join(re.findall(r"NAT with (.+?)!", t)) for k, t in outputs.items()})
    independent, address, both = "Endpoint Independent", "Address Dependent", "Address and Port Dependent"
    for kind, (mapping, filtering) in {
        Kind.OPEN: (independent, independent),
        Kind.FULL_CONE: (independent, independent),
        Kind.RESTRICTED_CONE: (independent, address),
        Kind.PORT_RESTRICTED: (independent, both),
        Kind.SYMMETRIC: (both, both),
        Kind.SYMMETRIC_FIREWALL: (independent, both),
        Kind.CARRIER_GRADE: (both, both),
    }.items():
        assert f"NAT with {mapping} Mapping!" in outputs[kind], outputs[kind]
        assert f"NAT with {filtering} Filtering!" in outputs[kind], outputs[kind]
        assert ("No NAT!" in outputs[kind]) == (kind in (Kind.OPEN, Kind.SYMMETRIC_FIREWALL))
    time.sleep(8.5)
    records = {k: site.record(h.public) for k, h in households.items()}
    show("the server's record of turnutils_natdiscovery", records)
    # It sends each test once, so which of two filterings it met shows only on its own screen.
    some = "restricted cone or port restricted cone, or no NAT"
    assert records == {
        Kind.OPEN: "full cone or open",
        Kind.FULL_CONE: "full cone or open",
        Kind.RESTRICTED_CONE: some,
        Kind.PORT_RESTRICTED: some,
        Kind.SYMMETRIC: "symmetric",
        Kind.SYMMETRIC_FIREWALL: some,
        Kind.CARRIER_GRADE: "symmetric",
    }


def test_where_datagrams_get_lost_names_are_right_or_not_given(site: Site) -> None:
    households = site.subscribers([kind for kind in KINDS if kind is not Kind.UDP_BLOCKED])
    for household, percent in zip(households.values(), itertools.cycle((10, 15, 20)), strict=False):
        # Where they arrive, for a sender whose own host drops them is told so.
        household.phone.namespace.nft(losing("replies", "", percent))
        site.laboratory.bundle.namespace.nft(losing(household.name, f"ip saddr {household.public}", percent))
    outputs = together(households, lambda _: [*NATTRAV, "stun", "probe", BUNDLE, "--json"])
    reports = {kind: report_of(text) for kind, text in outputs.items()}
    found = {kind: report["classic_name"] for kind, report in reports.items()}
    show("our probe, 10 to 20 % of the datagrams lost each way", found)
    for kind, report in reports.items():
        assert report["classic_name"] == LABELS[kind] or report["undetermined"], report
    assert sum(found[kind] == LABELS[kind] for kind in found) >= 4, found
    time.sleep(1.0)
    records = {kind: site.record(household.public) for kind, household in households.items()}
    show("the server's record of it", records)
    for kind, name in records.items():
        assert name in (LABELS[kind], "unknown", "some cone"), (kind, name)


@pytest.mark.interop
def test_coturns_stunclient_gets_all_three_answers_through_an_open_path(site: Site) -> None:
    needs("turnutils_stunclient", "coturn")
    households = site.subscribers([Kind.OPEN])
    output = together(households, lambda _: ["turnutils_stunclient", "-f", "-p", "3478", BUNDLE])[Kind.OPEN]
    assert output.count("UDP reflexive addr:") == 3, output


@pytest.mark.interop
def test_pystun3_names_what_it_can(site: Site, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), "pystun3"]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("needs pystun3: a package index")
    expected = {
        Kind.OPEN: "Open Internet",
        Kind.FULL_CONE: "Full Cone",
        Kind.RESTRICTED_CONE: "Restric NAT",
        Kind.PORT_RESTRICTED: "Restric Port NAT",
        Kind.SYMMETRIC: "Symmetric NAT",
        Kind.SYMMETRIC_FIREWALL: "Symmetric UDP Firewall",
        Kind.UDP_BLOCKED: "Blocked",
        Kind.CARRIER_GRADE: "Symmetric NAT",
    }
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from stun.cli import main; main()"
    outputs = together(
        site.subscribers(list(expected)),
        lambda h: [sys.executable, "-P", "-S", "-c", program, "-H", BUNDLE, "-i", h.phone.address],
    )
    found = {k: m.group(1) if (m := re.search(r"NAT Type: (.+)", text)) else text for k, text in outputs.items()}
    show("pystun3", found)
    assert found == expected


@pytest.mark.interop
def test_our_probe_names_every_kind_with_coturn_as_server(site: Site) -> None:
    needs("turnserver", "coturn")
    host = site.laboratory.host("coturn", COTURN)
    host.namespace.ip(f"address add {COTURN_SECOND}/24 dev e0")
    coturn = host.namespace.start(
        *("turnserver", "-n", "-S", "-L", COTURN, "-L", COTURN_SECOND, "--no-cli", "--no-tls", "--no-dtls"),
        *("--simple-log", "--log-file", "/dev/null", "--pidfile", "/dev/null"),
        name="turnserver",
    )
    coturn.wait_listening("udp", 3478, 15)
    outputs = together(site.probing or site.subscribers(), lambda _: [*NATTRAV, "stun", "probe", COTURN, "--json"])
    found = {kind: report_of(text)["classic_name"] for kind, text in outputs.items()}
    show("our probe against coturn", found)
    assert found == LABELS


def test_a_binding_lifetime_is_bracketed(site: Site) -> None:
    household = site.subscribers([Kind.PORT_RESTRICTED])[Kind.PORT_RESTRICTED]
    household.binding_lifetime(4)
    command = [*NATTRAV, "stun", "probe", BUNDLE, "--json", "--lifetime", "--lifetime-min", "1", "--lifetime-max", "8"]
    report = report_of(together({household.kind: household}, lambda _: command)[household.kind])
    low, high = report["binding_lifetime_seconds"]
    assert low <= 4.6
    assert high >= 3.4
    assert high - low <= 1.5
    assert report["keepalive_seconds"] == low / 2


@pytest.mark.interop
def test_the_router_is_asked_by_all_three_protocols(site: Site) -> None:
    needs("miniupnpd", "miniupnpd")
    pytest.importorskip("miniupnpc", reason="needs miniupnpc: pip install 'nattrav[gateway]'")
    household = site.subscribers([Kind.PORT_RESTRICTED])[Kind.PORT_RESTRICTED]
    router = household.routers[0]
    router.nft(
        """
table inet upnp {
    chain enter {
        type filter hook forward priority 10;
    }
    chain before {
        type nat hook prerouting priority -90;
    }
    chain after {
        type nat hook postrouting priority 90;
    }
}
"""
    )
    directory = site.laboratory.directory
    # The daemon takes no reserved address for its external one, and the laboratory has only such.
    (directory / "miniupnpd.conf").write_text(
        "ext_ifname=wan\nlistening_ip=lan\next_ip=5.6.7.8\nhttp_port=0\nenable_natpmp=yes\nenable_upnp=yes\n"
        "uuid=00000000-0000-0000-0000-000000000001\nallow 1024-65535 10.0.0.0/8 1024-65535\n"
        "upnp_table_name=upnp\nupnp_nat_table_name=upnp\nupnp_forward_chain=enter\nupnp_nat_chain=before\n"
        "upnp_nat_postrouting_chain=after\n"
    )
    daemon = router.start(
        *("miniupnpd", "-d", "-f", directory / "miniupnpd.conf", "-P", directory / "miniupnpd.pid"), name="miniupnpd"
    )
    daemon.wait_for("Listening for NAT-PMP/PCP traffic", 10)
    command = [*NATTRAV, "stun", "probe", BUNDLE, "--json", "--gateway"]
    gateway = report_of(together({household.kind: household}, lambda _: command)[household.kind])["gateway"]
    assert gateway["address"] == household.phone.address.rsplit(".", 1)[0] + ".1"
    assert (gateway["upnp"], gateway["nat_pmp"], gateway["pcp"]) == ("5.6.7.8",) * 3, daemon.output()
    assert gateway["cascade"] == "different"
