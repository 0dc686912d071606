"""The routers of the laboratory are what they are called: a foreign client and a foreign server say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.natlab.laboratory import BUNDLE, BUNDLE_SECOND, Laboratory
from tests.natlab.namespaces import LaboratoryFault, leftovers
from tests.natlab.nats import BEHAVIOR, Kind

pytestmark = [pytest.mark.lab, pytest.mark.interop]

KINDS = [kind for kind in Kind if kind not in (Kind.UDP_BLOCKED, Kind.IPV6_FIREWALL)]


@pytest.fixture(scope="module")
def reports(laboratory: Laboratory) -> Iterator[dict[Kind, str]]:
    """What coturn's discovery client says behind each kind of router, asked of coturn's server, all at once."""
    if shutil.which("turnserver") is None:
        pytest.skip("needs turnserver: apt install coturn")
    server = laboratory.bundle.namespace.start(
        "turnserver", "-n", "--log-file=stdout", "--stun-only", "--no-tls", "--no-dtls", "--no-cli", "-m", "1",
        "-L", BUNDLE, "-L", BUNDLE_SECOND,
        "--pidfile", str(laboratory.directory / "turnserver.pid"), "--userdb", str(laboratory.directory / "turn.db"),
        name="coturn",
    )  # fmt: skip
    server.wait_listening("udp", 3478)
    households = [laboratory.subscriber(kind.value, kind) for kind in KINDS]
    with ThreadPoolExecutor(len(households)) as pool:
        output = pool.map(
            lambda one: one.phone.namespace.execute("turnutils_natdiscovery", "-m", "-f", BUNDLE), households
        )
        yield dict(zip(KINDS, output, strict=True))
    server.stop()


def found(report: str, what: str) -> str:
    """`endpoint-independent`, … from the words the client prints, such as `NAT with Address Dependent Mapping!`."""
    words = {
        f"NAT with Endpoint Independent {what}!": "endpoint-independent",
        f"NAT with Address Dependent {what}!": "address-dependent",
        f"NAT with Address and Port Dependent {what}!": "address-and-port-dependent",
    }
    return next((behavior for text, behavior in words.items() if text in report), f"unknown:\n{report}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_client_sees_the_filtering_of_each_kind(reports: dict[Kind, str], kind: Kind) -> None:
    assert found(reports[kind], "Filtering") == BEHAVIOR[kind].filtering


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_client_sees_the_mapping_of_each_kind(reports: dict[Kind, str], kind: Kind) -> None:
    # Where nothing is translated the mapping cannot depend on the destination.
    assert found(reports[kind], "Mapping") == (BEHAVIOR[kind].mapping or "endpoint-independent")


def test_a_router_that_blocks_udp_lets_tcp_pass(laboratory: Laboratory) -> None:
    household = laboratory.subscriber("no-udp", Kind.UDP_BLOCKED)
    listener = laboratory.bundle.namespace.start(
        "python3", "-c", f"import socket; s = socket.create_server(({BUNDLE!r}, 7070)); s.accept()", name="listener"
    )
    listener.wait_listening("tcp", 7070)
    connect = f"import socket; socket.create_connection(({BUNDLE!r}, 7070), 3); print('connected')"
    assert "connected" in household.phone.namespace.execute("python3", "-c", connect)
    ask = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5);"
        f"s.sendto(b'\\0\\1\\0\\0\\x21\\x12\\xa4\\x42' + bytes(12), ({BUNDLE!r}, 3478)); s.recv(100)"
    )
    with pytest.raises(LaboratoryFault, match="TimeoutError"):
        household.phone.namespace.execute("python3", "-c", ask)


def test_an_ipv6_firewall_lets_out_and_not_in(laboratory: Laboratory) -> None:
    household = laboratory.subscriber("six", Kind.IPV6_FIREWALL)
    assert household.phone.address6 is not None
    household.phone.namespace.execute("ping", "-c1", "-W2", "2001:db8::1")
    with pytest.raises(LaboratoryFault):
        laboratory.bundle.namespace.execute("ping", "-c1", "-W1", household.phone.address6)


def test_nothing_is_left_when_the_laboratory_closes_after_a_failure() -> None:
    made: list[Laboratory] = []

    def fail_inside() -> None:
        with Laboratory() as short:
            made.append(short)
            short.subscriber("one", Kind.SYMMETRIC)
            short.bundle.namespace.start("sleep", "1000")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert leftovers(made[0].prefix) == []
    shutil.rmtree(made[0].directory)
