"""The same exchanges to our relay and to Debian's rtpengine 10.5: the descriptions they write mean the same.

Compared is what a reader of SDP goes by: per section the `m=` fields, `c=`, bandwidths and the set of attributes,
with ports as relations (`a=rtcp` is the RTP port or the next). Order is not compared: 10.5 writes foreign attributes
before those of payload types, later versions as we do. What else differs on purpose stands in `REVIEWED`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.control.ng.requests import Driver
from tests.interop.rtpengines import ADVERTISED, ADVERTISED_SIX, Peer, rtpengine
from tests.interop.sdp_table import EXCHANGES

pytestmark = pytest.mark.interop

REVIEWED = {
    "session-level inactive, section sendrecv": "10.5 lets the session's direction win; RFC 8866 §6.7 the section's",
    "odd bandwidth": "10.5 passes modifiers it does not know; later versions and we drop them",
    "key and repeat lines": "10.5 passes k= and r=; later versions and we drop them",
    "answer with more streams": "10.5 invents streams that were not offered; later versions and we refuse",
    "talking to oneself": "10.5 accepts a dialogue of a tag with itself; later versions and we refuse",
}
"""Exchanges whose outcome differs, and why ours stays."""


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with rtpengine(tmp_path_factory.mktemp("rtpengine")) as running:
        yield running


@pytest.mark.parametrize("name", EXCHANGES)
def test_both_relays_word_an_exchange_alike(name: str, peer: Peer) -> None:
    ours = Driver(f"pub/{ADVERTISED}", f"pub/{ADVERTISED_SIX}")
    call: dict[str, Any] = {"call-id": f"table {name}"}
    differences: list[tuple[str, object, object]] = []
    for command, text, keys in EXCHANGES[name]:
        theirs = meaning(peer.ask(command, {"sdp": text, **call, **keys}), text)
        mine = meaning(ours.ask(command, sdp=text, **call, **keys), text)
        if theirs != mine:
            differences.append((command, theirs, mine))
    peer.ask("delete", {**call, "delete-delay": 0})
    if name in REVIEWED:
        assert differences, f"no difference left: take {name!r} out of the reviewed ones"
    else:
        assert not differences


def meaning(reply: dict[str, Any], asked: bytes) -> list[list[str]] | str:
    """What a reply to a description says to a reader of SDP, or its error."""
    if "sdp" not in reply:
        return f"{reply['result']}: {reply.get('error-reason')}"
    lines = [line for line in reply["sdp"].decode("latin-1").replace("\r\n", "\n").split("\n") if line]
    starts = [number for number, line in enumerate(lines) if line.startswith("m=")] + [len(lines)]
    session = lines[: starts[0]]
    connection = next((line for line in session if line.startswith("c=")), "")
    found = [sorted(line for line in session if not line.startswith("c="))]
    for start, end in pairwise(starts):
        found.append(_section(lines[start], lines[start + 1 : end], connection, asked))
    return found


def _section(head: str, lines: list[str], connection: str, asked: bytes) -> list[str]:
    media, port, rest = head.split(" ", 2)
    if port == "0":
        # A refused stream: neither its address nor anything else of it matters.
        return [head, *sorted(line for line in lines if line.startswith(("a=mid:", "a=label:")))]
    said = []
    for line in lines:
        if line.startswith("a=rtcp:"):
            number, space, address = line[7:].partition(" ")
            said.append(f"a=rtcp:port+{int(number) - int(port)}{space}{address}")
        elif _is_oddity(line, media, asked):
            continue
        else:
            said.append(line)
    if not any(line.startswith("c=") for line in lines):
        said.append(connection)
    return [f"{media} port {rest}", *sorted(said)]


def _is_oddity(line: str, media: str, asked: bytes) -> bool:
    """Lines of 10.5 that later versions and we do not write: invented maps, directions of fax, borrowed ptime."""
    if line.startswith("a=rtpmap:") and line.endswith(" /0"):
        return True
    if media == "m=image" and line == "a=sendrecv":
        return True
    return line.startswith("a=ptime:") and line.encode() not in asked
