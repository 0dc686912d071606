"""With a shared key the proxy's requests cross a network sealed, and only sealed replies count."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.config.control import ControlAddress
from nattrav.control.ng.handler import Handler
from nattrav.control.ng.io.server import NgService
from nattrav.control.ng.server import Server
from nattrav.daemon.runtime import StartRefused
from nattrav.daemon.shared_key import shared_key
from nattrav.net.address import TransportAddress
from nattrav.net.rounds import Rounds
from nattrav.proxy.io.relays import RelayAddress, Relays
from tests.relay.planes import engine
from tests.sdp.samples import PHONE, sdp

KEY = b"0123456789abcdef"


async def test_a_sealed_offer_is_answered_by_a_relay_that_lists_nobody(tmp_path: Path) -> None:
    server = Server(Handler(engine()), allow=[ip_network("192.0.2.0/24")], key=KEY)
    service = NgService(server, [ControlAddress.parse("udp:127.0.0.1:0")], directory=tmp_path)
    send, receive = trio.open_memory_channel[tuple[int, dict[str, Any] | None]](10)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(service.serve)
        rounds = Rounds()
        relays = Relays(
            [RelayAddress("r", 1, TransportAddress.parse(listener.address))],
            lambda number, reply: send.send_nowait((number, reply)),
            lambda relay, up: None,
            rounds=rounds,
            cookie_prefix="p",
            key=KEY,
        )
        await nursery.start(relays.run)
        nursery.start_soon(rounds.run)
        relays.ask(7, "offer", {"sdp": sdp(*PHONE), "from-tag": "a"}, "c1")
        number, reply = await receive.receive()
        nursery.cancel_scope.cancel()
    assert number == 7
    assert reply is not None
    assert reply["result"] == "ok"


def test_a_key_that_is_missing_or_short_is_refused_at_start(tmp_path: Path) -> None:
    assert shared_key("") is None
    file = tmp_path / "key"
    file.write_bytes(b"short\n")
    with pytest.raises(StartRefused, match="less than 16 octets"):
        shared_key(str(file))
    with pytest.raises(StartRefused, match="make it readable"):
        shared_key(str(tmp_path / "absent"))
    file.write_bytes(KEY + b"\n")
    assert shared_key(str(file)) == KEY
