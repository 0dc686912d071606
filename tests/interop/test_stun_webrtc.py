"""Chromium's WebRTC gathers candidates with our server from behind every kind of NAT."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nattrav.net.address import TransportAddress
from tests.natlab import namespaces
from tests.natlab.laboratory import BUNDLE, BUNDLE_SECOND, Laboratory, Subscriber
from tests.natlab.nats import Kind

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.interop]

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
# Two addresses of one server: a NAT whose mapping depends on the destination shows two ports for one socket.
PAGE = f"""<!doctype html><script>
const connection = new RTCPeerConnection({{
  iceServers: [{{urls: ["stun:{BUNDLE}:3478", "stun:{BUNDLE_SECOND}:3478"]}}],
}});
const found = [];
const report = () => console.log("GATHERED " + JSON.stringify(found));
connection.onicecandidate = (event) => {{
  if (event.candidate && event.candidate.candidate) found.push(event.candidate.candidate);
}};
connection.onicegatheringstatechange = () => {{
  if (connection.iceGatheringState === "complete") report();
}};
connection.createDataChannel("any");
connection.createOffer().then((offer) => connection.setLocalDescription(offer));
setTimeout(report, Number(location.hash.slice(1)));
</script>"""
# Without any answer the browser takes most of a minute to give up; four sends of its schedule are in this time.
PATIENCE = {Kind.UDP_BLOCKED: 2500}


@dataclass(frozen=True)
class Candidate:
    """What a candidate line (RFC 8839 §5.1) says."""

    kind: str
    at: TransportAddress
    base_port: int | None

    @classmethod
    def parse(cls, line: str) -> Candidate:
        words = line.split()
        assert words[2] == "udp", line
        related = int(words[words.index("rport") + 1]) if "rport" in words else None
        return cls(words[7], TransportAddress(words[4], int(words[5])), related)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    reason = namespaces.missing()
    if reason:
        pytest.skip(reason)
    with Laboratory(tmp_path_factory.mktemp("webrtc-laboratory")) as made:
        server = made.bundle.namespace.start(
            *(sys.executable, "-m", "nattrav.cli", "stun", "serve", "--listen", BUNDLE, "--alternate", BUNDLE_SECOND),
            *("--runtime-dir", made.directory / "run"),
            name="stun",
            directory=ROOT,
        )
        server.wait_listening("tcp", 3478, 20)
        yield made
        assert "Traceback" not in server.output()


def gather(household: Subscriber, program: str, directory: Path) -> list[Candidate]:
    """Let a browser gather in the household; gives its candidates."""
    page = directory / "gather.html"
    page.write_text(PAGE)
    browser = household.phone.namespace.start(
        *(program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--remote-debugging-port=0"),
        *("--disable-features=WebRtcHideLocalIpsWithMdns", f"--user-data-dir={directory / 'profile'}"),
        f"{page.as_uri()}#{PATIENCE.get(household.kind, 60_000)}",
        name="chromium",
    )
    try:
        output = browser.wait_for('", source: file://', 60)
    finally:
        browser.stop()
    gathered = re.search(r"GATHERED (\[.*?\])\"", output)
    assert gathered, output
    return [Candidate.parse(line) for line in json.loads(gathered.group(1).replace('\\"', '"'))]


def translated(household: Subscriber, port: int, server: str) -> TransportAddress:
    """What the household's routers, by their own tables, made of a phone's port towards a server."""
    seen = TransportAddress(household.phone.address, port)
    for router in household.routers:
        for line in router.execute("conntrack", "-L", "-p", "udp", "--dport", "3478").splitlines():
            source, target, source_port, _, _, back, _, back_port = re.findall(r"(?:src|dst|port)=(\S+)", line)[:8]
            if (source, int(source_port), target) == (*seen, server):
                seen = TransportAddress(back, int(back_port))
                break
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_chromium_gathers_what_the_nat_mapped(kind: Kind, laboratory: Laboratory, tmp_path: Path) -> None:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium: apt install chromium")
    household = laboratory.subscriber(kind.value.replace("_", "-"), kind)
    gathered = gather(household, program, tmp_path)
    reflexive = [candidate for candidate in gathered if candidate.kind == "srflx"]
    bases = {candidate.base_port for candidate in reflexive}
    print(f"{kind.value:<20}{', '.join(str(candidate.at) for candidate in reflexive) or 'none'}")
    assert any(candidate.kind == "host" for candidate in gathered)
    if kind is Kind.UDP_BLOCKED:
        assert not reflexive
        return
    assert len(bases) == 1, gathered
    base = bases.pop()
    assert base is not None
    assert {candidate.at for candidate in reflexive} == {
        translated(household, base, server) for server in (BUNDLE, BUNDLE_SECOND)
    }
    addresses = {candidate.at.host for candidate in reflexive}
    match kind:
        case Kind.OPEN | Kind.SYMMETRIC_FIREWALL:
            assert [candidate.at for candidate in reflexive] == [TransportAddress(household.phone.address, base)]
        case Kind.SYMMETRIC | Kind.CARRIER_GRADE:
            assert addresses == {household.public}
            assert len(reflexive) == 2, "the mapping depends on the destination, so there are two"
        case _:
            assert addresses == {household.public}
            assert len(reflexive) == 1, "one mapping for both destinations"
