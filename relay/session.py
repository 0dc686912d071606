"""The values that the relay's callers and its engine exchange: what a party's SDP said, and where we put its media.

Words: a session is one call; a stream one `m=` line of it; a leg one party of one stream; a component the RTP or
the RTCP half of a leg (one component carries both under rtcp-mux).
"""

from __future__ import annotations

import enum
from dataclasses import field

from nattrav.net.address import TransportAddress
from nattrav.net.immutable import immutable


class Direction(enum.Enum):
    """What a party is ready to do with a stream, as its SDP says (RFC 3264 §5.1)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """The party may send media."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """The party wants to receive media."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)


class Learning(enum.Enum):
    """How a leg's remote address is learned from packets (RFC 7362)."""

    OFF = "off"
    IMMEDIATE = "immediate"
    DELAYED = "delayed"
    HEURISTIC = "heuristic"

    __hash__ = object.__hash__


class Carriage(enum.Enum):
    """How a stream is carried: RTP with RTCP, opaque datagrams (T.38, SCTP over DTLS), or not by us at all."""

    RTP = "rtp"
    DATAGRAM = "datagram"
    NONE = "none"


class RtcpMux(enum.Enum):
    """What an ng client may ask of rtcp-mux (RFC 5761)."""

    OFFER = "offer"
    REQUIRE = "require"
    DEMUX = "demux"
    ACCEPT = "accept"
    REJECT = "reject"

    __hash__ = object.__hash__


@immutable
class PartyMedia:
    """One `m=` line of one party's SDP, as far as a relay cares.

    `rtp` is None when the SDP gives no usable address yet (hold with a null address, trickle ICE). `rtcp` is the
    RTCP address by `a=rtcp` or RTP port + 1, None under mux or for datagrams. `secured` marks SRTP and DTLS.
    """

    media: str
    protocol: str
    carriage: Carriage
    rtp: TransportAddress | None
    rtcp: TransportAddress | None = None
    rtcp_mux: bool = False
    direction: Direction = Direction.SENDRECV
    payload_types: frozenset[int] = frozenset()
    clock_rates: dict[int, int] = field(default_factory=dict)
    codecs: dict[int, str] = field(default_factory=dict)
    port_count: int = 1
    rejected: bool = False
    null_address: bool = False
    secured: bool = False
    mid: str | None = None


@immutable
class SideOptions:
    """What an offer or answer asks about its sender's side and about the side it goes to.

    The first group acts on the sender of the message; it is set anew by each message. None = the relay's default.
    """

    learning: Learning | None = None
    strict_source: bool | None = None
    media_handover: bool = False
    asymmetric: bool = False
    port_latching: bool = False
    no_port_latching: bool = False
    nat_wait: bool = False
    pierce_nat: bool = False
    unidirectional: bool = False
    signalling_source: str | None = None
    sip_source_address: bool = False

    from_interface: str | None = None
    to_interface: str | None = None
    address_family: int | None = None
    """4 or 6: family of the addresses shown to the receiver of the SDP."""
    rtcp_mux: frozenset[RtcpMux] = frozenset()
    tos: int | None = None
    label: str | None = None
    to_label: str | None = None
    metadata: str | None = None
    delete_delay: float | None = None
    new_branch: bool = False
    provisional: bool = False
    final_response: bool = False
    supports_load_limit: bool = False
    source: str | None = None
    """Who asked: the control peer's address, for the log."""


@immutable
class CallKey:
    """How ng names a dialogue: strings of octets, kept as latin-1 text."""

    call_id: str
    from_tag: str | None = None
    to_tag: str | None = None
    via_branch: str | None = None


@immutable
class Placement:
    """Where one stream's media goes, as written into the SDP for its receiver: advertised addresses.

    `rtcp` is None for datagrams; under mux it equals `rtp` and `rtcp_mux` is set. `family` is 4 or 6. `port_count` is
    the number of port pairs in a row, `m=audio 4000/2`.
    """

    rejected: bool
    rtp: TransportAddress | None
    rtcp: TransportAddress | None = None
    rtcp_mux: bool = False
    family: int = 4
    port_count: int = 1


class Refusal(Exception):
    """The engine does not carry out a request. `reason` is the exact ng `error-reason`.

    `load_limit` says that a limit refused a new session, which clients may be told with `result: load limit`.
    """

    def __init__(self, reason: str, *, load_limit: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.load_limit = load_limit
