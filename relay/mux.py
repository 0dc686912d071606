"""What becomes of rtcp-mux on each leg of an offer and its answer (RFC 5761; wishes of the driver)."""

from __future__ import annotations

from nattrav.net.immutable import immutable
from relay.session import RtcpMux

Wishes = frozenset[RtcpMux]


@immutable
class MuxOffer:
    """How an offer treats both legs.

    offered     the receiver is offered mux
    fallback    an RTCP port is opened and shown to the receiver as well
    settled     the sender's leg will use mux whatever the receiver answers
    """

    offered: bool
    fallback: bool
    settled: bool


def mux_offer(wishes: Wishes, *, sender_wants: bool, receiver_has: bool) -> MuxOffer:
    """Decide for an offer. A receiver that already uses mux keeps it and is shown no fallback."""
    settled = sender_wants and RtcpMux.REJECT not in wishes and bool(wishes & {RtcpMux.DEMUX, RtcpMux.ACCEPT})
    if receiver_has or RtcpMux.REQUIRE in wishes:
        return MuxOffer(offered=True, fallback=False, settled=settled)
    if RtcpMux.OFFER in wishes:
        return MuxOffer(offered=True, fallback=True, settled=settled)
    if RtcpMux.DEMUX in wishes:
        return MuxOffer(offered=False, fallback=True, settled=settled)
    return MuxOffer(offered=sender_wants, fallback=True, settled=settled)


def mux_answer(wishes: Wishes, *, offerer_wants: bool, offered: bool, accepted: bool) -> tuple[bool, bool]:
    """Decide for an answer: (the answerer's leg uses mux, the offerer's leg uses mux)."""
    answerer = offered and accepted
    if not offerer_wants or RtcpMux.REJECT in wishes:
        return answerer, False
    return answerer, answerer or bool(wishes & {RtcpMux.DEMUX, RtcpMux.ACCEPT})
