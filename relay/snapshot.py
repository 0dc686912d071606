"""Sessions as JSON-able records and back: what a restart needs to go on without signalling.

Times are stored as Unix seconds, because only those mean something to another process. A record holds everything
of a session: parties, descriptions, ports, learned addresses, counters. What has its usual value is left out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

from nattrav.net.address import TransportAddress
from relay.interfaces import Interfaces
from relay.legs import Leg, Party, Port, PortSet, Session, SessionState
from relay.plane import DropReason, FlowFigures, KernelMark, Learned, Rank, RtpFigures
from relay.session import Carriage, Direction, Learning, PartyMedia, RtcpMux, SideOptions
from relay.streams import Streams

VERSION = 1

Record = dict[str, Any]


class UnreadableRecord(ValueError):
    """A record does not describe a session of this relay."""


def freeze(session: Session, streams: Streams, epoch: float) -> Record:
    """Write a session down. `epoch` is Unix time at monotonic zero."""
    places = {id(party): index for index, party in enumerate(session.parties)}
    return _told(
        {
            "call_id": session.call_id,
            "created": session.created + epoch,
            "state": session.state.value,
            "answered_at": None if session.answered_at is None else session.answered_at + epoch,
            "last_signal": session.last_signal + epoch,
            "signals": session.signals,
            "tos": session.tos,
            "metadata": session.metadata,
            "blocked": session.blocked,
            "blocked_flows": sorted(session.blocked_flows),
            "parties": [_freeze_party(party, places, streams, epoch) for party in session.parties],
        }
    )


def _told(record: Record) -> Record:
    """Leave out what `thaw` puts there by itself."""
    return {
        name: item for name, item in record.items() if item is not None and item is not False and item not in ([], {})
    }


def _freeze_party(party: Party, places: dict[int, int], streams: Streams, epoch: float) -> Record:
    return _told(
        {
            "tag": party.tag,
            "created": party.created + epoch,
            "branch": party.branch,
            "aliases": party.aliases,
            "partner": None if party.partner is None else places.get(id(party.partner)),
            "interface": party.interface,
            "family": party.family,
            "options": _plain(party.options),
            "label": party.label,
            "public": party.public,
            "answered": party.answered,
            "offers": party.offers,
            "final": party.final,
            "blocked": party.blocked,
            "going": None if party.going is None else party.going + epoch,
            "legs": [_freeze_leg(leg, streams, epoch) for leg in party.legs],
        }
    )


def _freeze_leg(leg: Leg, streams: Streams, epoch: float) -> Record:
    return _told(
        {
            "media": None if leg.media is None else _plain(leg.media),
            "advertised": leg.advertised,
            "advertised_rtcp": leg.advertised_rtcp,
            "null_address": leg.null_address,
            "direction": leg.direction.value,
            "carriage": leg.carriage.value,
            "changing": leg.changing,
            "offered_mux": leg.offered_mux,
            "mux": leg.mux,
            "muxing": sorted(wish.value for wish in leg.muxing),
            "heard": [sorted(types) for types in leg.heard],
            "answered_in": leg.answered_in,
            "ports": _freeze_ports(leg.ports, streams, epoch),
            "pending": _freeze_ports(leg.pending, streams, epoch),
            "retired": [_freeze_ports(ports, streams, epoch) for ports in leg.retired],
        }
    )


def _freeze_ports(ports: PortSet | None, streams: Streams, epoch: float) -> Record | None:
    if ports is None:
        return None
    return _told(
        {
            "host": ports.local.host,
            "peer": ports.peer,
            "rtp": _freeze_port(ports.rtp, streams, epoch),
            "rtcp": None if ports.rtcp is None else _freeze_port(ports.rtcp, streams, epoch),
            "more": [
                _freeze_port(port, streams, epoch) | {"pair": port.pair, "is_rtcp": port.rtcp} for port in ports.more
            ],
        }
    )


def freeze_learned(session: Session, leg: Leg, port: Port, streams: Streams, epoch: float) -> Record | None:
    """Write down what one port learned, to be added to its session's record; None when the leg has it no more."""
    for ports in leg.sets():
        if port in ports.ports():
            learned = _learned(streams.of(port).learned, epoch)
            return {"call_id": session.call_id, "host": ports.local.host, "number": port.number, "learned": learned}
    return None


def _learned(learned: Learned, epoch: float) -> list[Any]:
    rank = None if learned.rank is None else int(learned.rank)
    return [learned.target, learned.source, learned.latched, rank, learned.since + epoch]


def _freeze_port(port: Port, streams: Streams, epoch: float) -> Record:
    figures = streams.of(port)
    learned, rtp = figures.learned, figures.rtp
    record: Record = {"number": port.number}
    if learned.source is not None:
        record["learned"] = _learned(learned, epoch)
    if figures.packets_in or figures.packets_out or figures.drops:
        times = [at + epoch if at else 0 for at in (figures.first_in, figures.last_in, figures.last_accepted)]
        record["counts"] = [
            figures.packets_in,
            figures.bytes_in,
            figures.packets_out,
            figures.bytes_out,
            figures.rtcp_in,
            *times,
        ]
        record["drops"] = {reason.value: count for reason, count in figures.drops.items()}
    if rtp.received:
        record["rtp"] = [getattr(rtp, name) for name in _RTP_FIELDS]
    if figures.mark is not None:
        record["kernel"] = [getattr(figures.mark, name) for name in _MARK_FIELDS]
    return record


_RTP_FIELDS = tuple(field.name for field in fields(RtpFigures))
_MARK_FIELDS = tuple(field.name for field in fields(KernelMark))


def _plain(value: PartyMedia | SideOptions) -> Record:
    """The fields that differ from their default."""
    found: Record = {}
    for name, default in _DEFAULTS[type(value)]:
        item = getattr(value, name)
        if item == default:
            continue
        if isinstance(item, enum.Enum):
            item = item.value
        elif isinstance(item, frozenset):
            item = sorted(one.value if isinstance(one, enum.Enum) else one for one in item)
        elif isinstance(item, dict):
            item = list(item.items())
        found[name] = item
    return found


def _defaults(kind: type[PartyMedia] | type[SideOptions]) -> list[tuple[str, Any]]:
    return [
        (one.name, one.default_factory() if one.default_factory is not MISSING else one.default) for one in fields(kind)
    ]


_DEFAULTS: dict[type, list[tuple[str, Any]]] = {kind: _defaults(kind) for kind in (PartyMedia, SideOptions)}


def thaw(record: Record, interfaces: Interfaces, shard: int, epoch: float) -> Session:
    """Make a session from its record. Its ports are known, but not open. UnreadableRecord when it cannot be."""
    try:
        return _thaw(record, interfaces, shard, epoch)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise UnreadableRecord(f"{type(error).__name__}: {error}") from None


def _thaw(record: Record, interfaces: Interfaces, shard: int, epoch: float) -> Session:
    session = Session(str(record["call_id"]), record["created"] - epoch, shard)
    session.state = SessionState(record["state"])
    session.answered_at = None if record.get("answered_at") is None else record["answered_at"] - epoch
    session.last_signal = record["last_signal"] - epoch
    session.signals = int(record["signals"])
    session.tos = record.get("tos")
    session.metadata = record.get("metadata")
    session.blocked = bool(record.get("blocked"))
    session.blocked_flows = {(int(a), int(b)) for a, b in record.get("blocked_flows", ())}
    for data in record["parties"]:
        party = _thaw_party(data, interfaces, epoch)
        session.parties.append(party)
        for tag in (party.tag, *party.aliases):
            if tag is not None:
                session.by_tag[tag] = party
    for party, data in zip(session.parties, record["parties"], strict=True):
        if data.get("partner") is not None:
            party.partner = session.parties[data["partner"]]
    return session


def _thaw_party(data: Record, interfaces: Interfaces, epoch: float) -> Party:
    party = Party(data.get("tag"), data["created"] - epoch, data.get("branch"))
    party.aliases = list(data.get("aliases", ()))
    party.interface = data.get("interface")
    party.family = data.get("family")
    party.options = _thaw_options(data.get("options", {}))
    party.label = data.get("label")
    party.public = bool(data.get("public"))
    party.answered = bool(data.get("answered"))
    party.offers = int(data["offers"])
    party.final = bool(data.get("final"))
    party.blocked = bool(data.get("blocked"))
    party.going = None if data.get("going") is None else data["going"] - epoch
    legs = data.get("legs", ())
    party.legs = [_thaw_leg(index, party, leg, interfaces, epoch) for index, leg in enumerate(legs)]
    return party


def _thaw_leg(index: int, party: Party, data: Record, interfaces: Interfaces, epoch: float) -> Leg:
    leg = Leg(index, party)
    leg.media = None if data.get("media") is None else _thaw_media(data["media"])
    leg.advertised = _address(data.get("advertised"))
    leg.advertised_rtcp = _address(data.get("advertised_rtcp"))
    leg.null_address = bool(data.get("null_address"))
    leg.direction = Direction(data["direction"])
    leg.carriage = Carriage(data["carriage"])
    leg.changing = bool(data.get("changing"))
    leg.offered_mux = bool(data.get("offered_mux"))
    leg.mux = bool(data.get("mux"))
    leg.muxing = frozenset(RtcpMux(wish) for wish in data.get("muxing", ()))
    first, second = data["heard"]
    leg.heard = (frozenset(first), frozenset(second))
    leg.answered_in = int(data["answered_in"])
    leg.ports = _thaw_ports(data.get("ports"), interfaces, epoch)
    leg.pending = _thaw_ports(data.get("pending"), interfaces, epoch)
    retired = (_thaw_ports(one, interfaces, epoch) for one in data.get("retired", ()))
    leg.retired = [ports for ports in retired if ports is not None]
    return leg


def _thaw_ports(data: Record | None, interfaces: Interfaces, epoch: float) -> PortSet | None:
    if data is None:
        return None
    local = interfaces.find(data["host"], data["rtp"]["number"])
    if local is None:
        raise ValueError(f"{data['host']} port {data['rtp']['number']} is in no pool")
    rtcp = None if data.get("rtcp") is None else _thaw_port(data["rtcp"], epoch, rtcp=True)
    more = [_thaw_port(one, epoch, rtcp=bool(one["is_rtcp"])) for one in data.get("more", ())]
    rtp = _thaw_port(data["rtp"], epoch, rtcp=False)
    return PortSet(local, rtp, rtcp, _address(data.get("peer")), tuple(more))


def _thaw_port(data: Record, epoch: float, *, rtcp: bool) -> Port:
    port = Port(int(data["number"]), None, rtcp=rtcp, pair=int(data.get("pair", 0)))
    if "learned" in data:
        target, source, latched, rank, since = data["learned"]
        known = None if rank is None else Rank(rank)
        mark = KernelMark(*map(int, data["kernel"])) if "kernel" in data else None
        port.learned = Learned(_address(target), _address(source), bool(latched), known, since - epoch, mark)
    if "counts" in data:
        packets_in, bytes_in, packets_out, bytes_out, rtcp_in, *times = data["counts"]
        first, last, accepted = (at - epoch if at else 0.0 for at in times)
        port.before = FlowFigures(
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            rtcp_in,
            first,
            last,
            accepted,
            {DropReason(word): count for word, count in data["drops"].items()},
            rtp=RtpFigures(*data["rtp"]) if "rtp" in data else RtpFigures(),
        )
    return port


def _thaw_options(data: Record) -> SideOptions:
    known = dict(data)
    if "learning" in known:
        known["learning"] = Learning(known["learning"])
    if "rtcp_mux" in known:
        known["rtcp_mux"] = frozenset(RtcpMux(wish) for wish in known["rtcp_mux"])
    return SideOptions(**known)


def _thaw_media(data: Record) -> PartyMedia:
    known = dict(data)
    known["carriage"] = Carriage(known["carriage"])
    known["rtp"] = _address(known.get("rtp"))
    known["rtcp"] = _address(known.get("rtcp"))
    if "direction" in known:
        known["direction"] = Direction(known["direction"])
    known["payload_types"] = frozenset(known.get("payload_types", ()))
    for name in ("clock_rates", "codecs"):
        known[name] = dict(known.get(name, ()))
    return PartyMedia(**known)


def _address(value: Any) -> TransportAddress | None:
    return None if value is None else TransportAddress(str(value[0]), int(value[1]))


def latest(records: Iterable[Record]) -> dict[str, Record]:
    """Replay what was written in order: `put` records replace, `learned` ones amend, `gone` ones remove."""
    found: dict[str, Record] = {}
    for record in records:
        if "put" in record:
            found[record["put"]["call_id"]] = record["put"]
        elif "learned" in record:
            _amend(found.get(record["learned"]["call_id"]), record["learned"])
        elif "gone" in record:
            found.pop(record["gone"], None)
    return found


def _amend(session: Record | None, news: Record) -> None:
    if session is None:
        return
    for party in session.get("parties", ()):
        for leg in party.get("legs", ()):
            for ports in (leg.get("ports"), leg.get("pending"), *leg.get("retired", ())):
                for port in () if ports is None or ports["host"] != news["host"] else (ports["rtp"], ports.get("rtcp")):
                    if port is not None and port["number"] == news["number"]:
                        port["learned"] = news["learned"]
