"""Short ways to write a party's media and a call for the engine's tests."""

from __future__ import annotations

from nattrav.net.address import TransportAddress
from relay.engine import Engine
from relay.session import CallKey, Carriage, Direction, PartyMedia, Placement, SideOptions
from tests.relay.planes import MemoryOpener, MemoryPlane

ALICE = TransportAddress("198.51.100.10", 4000)
BOB = TransportAddress("192.0.2.20", 6000)
CAROL = TransportAddress("192.0.2.30", 8000)


def audio(
    address: TransportAddress | None,
    *,
    direction: Direction = Direction.SENDRECV,
    mux: bool = False,
    null: bool = False,
    rejected: bool = False,
    media: str = "audio",
    payload_types: tuple[int, ...] = (0, 8),
) -> PartyMedia:
    """An RTP stream at an address, RTCP on the next port."""
    return PartyMedia(
        media=media,
        protocol="RTP/AVP",
        carriage=Carriage.RTP,
        rtp=address,
        rtcp=None if address is None or mux else TransportAddress(address.host, address.port + 1),
        rtcp_mux=mux,
        direction=direction,
        payload_types=frozenset(payload_types),
        clock_rates=dict.fromkeys(payload_types, 8000),
        codecs={0: "PCMU", 8: "PCMA"},
        rejected=rejected,
        null_address=null,
    )


def image(address: TransportAddress) -> PartyMedia:
    """A T.38 stream."""
    return PartyMedia(media="image", protocol="udptl", carriage=Carriage.DATAGRAM, rtp=address)


class Call:
    """A call between two tags through one engine."""

    def __init__(self, engine: Engine, call_id: str = "call-1", caller: str = "a", callee: str = "b") -> None:
        self.engine = engine
        self.call_id = call_id
        self.caller = caller
        self.callee = callee

    def offer(
        self,
        *media: PartyMedia,
        options: SideOptions | None = None,
        branch: str | None = None,
        to_tag: str | None = None,
        from_tag: str | None = None,
        now: float = 0.0,
    ) -> list[Placement]:
        key = CallKey(self.call_id, from_tag or self.caller, to_tag, branch)
        return self.engine.offer(key, media or [audio(ALICE)], options or SideOptions(), now)

    def answer(
        self,
        *media: PartyMedia,
        options: SideOptions | None = None,
        branch: str | None = None,
        to_tag: str | None = None,
        from_tag: str | None = None,
        now: float = 1.0,
    ) -> list[Placement]:
        key = CallKey(self.call_id, from_tag or self.caller, to_tag or self.callee, branch)
        return self.engine.answer(key, media or [audio(BOB)], options or SideOptions(), now)

    def up(self, *, now: float = 0.0) -> tuple[Placement, Placement]:
        """Offer and answer one audio stream; give what the callee and what the caller were shown."""
        (shown_to_bob,) = self.offer(now=now)
        (shown_to_alice,) = self.answer(now=now)
        return shown_to_bob, shown_to_alice


def plane_of(engine: Engine) -> MemoryPlane:
    """The engine's in-memory plane."""
    assert isinstance(engine.plane, MemoryPlane)
    return engine.plane


def opener_of(engine: Engine) -> MemoryOpener:
    """The engine's in-memory opener."""
    opener = engine.streams.opener
    assert isinstance(opener, MemoryOpener)
    return opener
