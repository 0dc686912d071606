"""The relay's reports and counters in the shape of ng's `query`, `delete` and `statistics` replies."""

from __future__ import annotations

from functools import lru_cache

from nattrav.control.ng.codec_bencode import Encodable, Encoded
from nattrav.net.address import TransportAddress
from relay.effects import CloseReason
from relay.plane import FlowFigures
from relay.quality import QualityHistory
from relay.report import ComponentReport, LegReport, PartyReport, SessionReport
from relay.session import Carriage
from relay.statistics import Spread, Statistics

Reply = dict[str, Encodable]


def session_reply(report: SessionReport, *, epoch: float) -> Reply:
    """Give the keys of `query` and `delete` but `result`. `epoch` is Unix time at monotonic zero."""
    reply: Reply = {
        "created": int(report.created),
        "created_us": int(report.created % 1 * 1_000_000),
        "created_ts": int(report.created * 1_000_000),
        "last signal": int(report.last_signal),
        "last redis update": 0,
    }
    if report.metadata is not None:
        reply["metadata"] = report.metadata
    reply["SSRC"] = _sources(report, epoch)
    tags: dict[str, Encodable] = {}
    for number, party in enumerate(report.parties):
        name = party.tag if party.tag is not None else f"<untagged {number}>"
        tags[name] = _party(party, name, epoch)
    reply["tags"] = tags
    reply["totals"] = {"RTP": _totals(report, rtcp=False), "RTCP": _totals(report, rtcp=True)}
    return reply


def _totals(report: SessionReport, *, rtcp: bool) -> Reply:
    packets, octets, errors = report.totals(rtcp=rtcp)
    return {"packets": packets, "bytes": octets, "errors": errors}


def _sources(report: SessionReport, epoch: float) -> Reply:
    found: Reply = {}
    for party in report.parties:
        for leg in party.legs:
            for component in leg.components:
                rtp = component.figures.rtp
                if component.rtcp or not rtp.received:
                    continue
                source: Reply = {
                    "bytes": component.figures.bytes_in,
                    "packets": rtp.received,
                    "last RTP timestamp": rtp.timestamp,
                    "last RTP seq": rtp.highest_sequence & 0xFFFF,
                    "cumulative loss": rtp.lost,
                }
                if component.current:
                    source |= _quality(leg.quality, epoch)
                found[str(rtp.ssrc)] = source
    return found


def _quality(quality: QualityHistory, epoch: float) -> Reply:
    """MOS times ten, jitter in milliseconds, loss in percent; nothing before the first estimate."""
    average, last = quality.average, quality.last
    if average is None or last is None:
        return {}
    return {
        "average MOS": {
            "MOS": round(average * 10),
            "jitter": round(last.jitter * 1000),
            "packet loss": round(last.loss * 100),
            "samples": quality.samples,
        },
        "lowest MOS": {"MOS": round(quality.lowest[0] * 10), "reported at": int(quality.lowest[1] + epoch)},
        "highest MOS": {"MOS": round(quality.highest[0] * 10), "reported at": int(quality.highest[1] + epoch)},
    }


def _party(party: PartyReport, name: str, epoch: float) -> Reply:
    reply: Reply = {"tag": name}
    if party.branch is not None:
        reply["via-branch"] = party.branch
    if party.aliases:
        reply["tag-aliases"] = list(party.aliases)
    if party.label is not None:
        reply["label"] = party.label
    reply["created"] = int(party.created)
    partners: list[Encodable] = [{"tag": tag or "", "type": "offer/answer"} for tag in party.partners]
    reply["subscriptions"] = partners
    reply["subscribers"] = list(partners)
    reply["medias"] = [_leg(leg, party, epoch) for leg in party.legs]
    reply["VSC"] = []
    return reply


# What follows is written as bencode at once: every call ends with a reply of four streams and two legs, and to make
# dictionaries of them first took twice as long as all the rest of it.


def _leg(leg: LegReport, party: PartyReport, epoch: float) -> Encoded:
    flags = []
    if leg.initialized:
        flags.append("initialized")
    if any(component.settings is not None and component.settings.asymmetric for component in leg.components):
        flags.append("asymmetric")
    if leg.direction in ("sendrecv", "sendonly"):
        flags.append("send")
    if leg.direction in ("sendrecv", "recvonly"):
        flags.append("recv")
    if leg.mux:
        flags.append("rtcp-mux")
    if leg.protocol.find("SAVP") >= 0 or leg.carriage is Carriage.DATAGRAM:
        flags.append("passthrough")
    if party.blocked:
        flags.append("blocked")
    streams = "".join([_stream(component, leg, epoch) for component in leg.components if component.current])
    heard = "".join(
        [
            f"d4:SSRCi{component.figures.rtp.ssrc}ee"
            for component in leg.components
            if not component.rtcp and component.figures.rtp.received
        ]
    )
    codec = "" if leg.codec is None else f"5:codec{len(leg.codec)}:{leg.codec}"
    return Encoded(
        f"d5:indexi{leg.index}e4:type{len(leg.media)}:{leg.media}8:protocol{len(leg.protocol)}:{leg.protocol}{codec}"
        f"7:streamsl{streams}e5:flags{_words(tuple(flags))}13:ingress SSRCsl{heard}e12:egress SSRCslee"
    )


def _stream(component: ComponentReport, leg: LegReport, epoch: float) -> str:
    figures, settings, (host, port) = component.figures, component.settings, component.local
    flags = []
    if leg.carriage is Carriage.RTP:
        flags.append("RTCP" if component.rtcp else "RTP")
    if component.advertised is not None:
        flags.append("filled")
    if figures.learned.latched:
        flags.append("confirmed")
    if settings is not None and settings.strict:
        flags.append("strict source address")
    if settings is not None and settings.handover:
        flags.append("media handover")
    last = int(figures.last_in + epoch) if figures.last_in else 0
    ssrc = f"4:SSRCi{figures.rtp.ssrc}e" if figures.rtp.received else ""
    return (
        f"d10:local porti{port}e13:local address{len(host)}:{host}6:family4:{'IPv6' if ':' in host else 'IPv4'}"
        f"8:endpoint{_endpoint(figures.learned.target or component.advertised)}"
        f"19:advertised endpoint{_endpoint(component.advertised)}"
        f"11:last packeti{last}e18:last kernel packeti0e16:last user packeti{last}e{ssrc}5:flags{_words(tuple(flags))}"
        f"5:statsd7:packetsi{figures.packets_in}e5:bytesi{figures.bytes_in}e6:errorsi{_errors(figures)}ee"
        f"9:stats_outd7:packetsi{figures.packets_out}e5:bytesi{figures.bytes_out}e6:errorsi0eee"
    )


def _endpoint(address: TransportAddress | None) -> str:
    host, port = address or ("0.0.0.0", 0)
    return f"d6:family4:{'IPv6' if ':' in host else 'IPv4'}7:address{len(host)}:{host}4:porti{port}ee"


@lru_cache(maxsize=256)
def _words(words: tuple[str, ...]) -> str:
    return f"l{''.join(f'{len(word)}:{word}' for word in words)}e"


def _errors(figures: FlowFigures) -> int:
    return sum(figures.drops.values())


def statistics_reply(statistics: Statistics, control: Reply) -> Reply:
    """Give ng's `statistics` dictionary; `control` is `controlstatistics`."""
    closed = statistics.closed
    forced = closed.get(CloseReason.ADMIN, 0) + closed.get(CloseReason.TAKEOVER, 0)
    current: Reply = {
        "sessionsown": statistics.sessions,
        "sessionsforeign": 0,
        "sessionstotal": statistics.sessions,
        "transcodedmedia": 0,
    }
    current |= _three_ways("packetrate", int(statistics.packet_rate))
    current |= _three_ways("byterate", int(statistics.byte_rate))
    current |= _three_ways("errorrate", 0)
    current |= {"media_userspace": statistics.sessions, "media_kernel": 0, "media_mixed": 0}
    total: Reply = {
        "uptime": str(int(statistics.uptime)),
        "managedsessions": statistics.opened,
        "rejectedsessions": statistics.rejected,
        "timeoutsessions": closed.get(CloseReason.TIMEOUT, 0),
        "silenttimeoutsessions": closed.get(CloseReason.SILENT_TIMEOUT, 0),
        "finaltimeoutsessions": closed.get(CloseReason.FINAL_TIMEOUT, 0),
        "offertimeoutsessions": closed.get(CloseReason.OFFER_TIMEOUT, 0),
        "regularterminatedsessions": closed.get(CloseReason.DELETED, 0),
        "forcedterminatedsessions": forced,
    }
    total |= _three_ways("relayedpackets", statistics.packets)
    total |= _three_ways("relayedbytes", statistics.bytes)
    total |= _three_ways("relayedpacketerrors", statistics.errors)
    total |= {
        "zerowaystreams": statistics.zero_way_streams,
        "onewaystreams": statistics.closed_one_way,
        "avgcallduration": f"{statistics.average_duration:.6f}",
    }
    interfaces: list[Encodable] = [
        {
            "name": pool.interface,
            "address": pool.address,
            "ports": {
                "min": pool.low,
                "max": pool.high,
                "used": pool.used,
                "used_pct": f"{100 * pool.used / pool.total if pool.total else 0:.2f}",
                "free": pool.free,
                "totals": pool.total,
            },
            "ingress": {"packets": pool.packets_in, "bytes": pool.bytes_in, "errors": pool.errors},
            "egress": {"packets": pool.packets_out, "bytes": pool.bytes_out, "errors": 0},
        }
        for pool in statistics.pools
    ]
    return {
        "currentstatistics": current,
        "totalstatistics": total,
        "mos": _spread("mos", statistics.quality.mos),
        "voip_metrics": {
            **_spread("jitter_measured", statistics.quality.jitter, 1e3),
            **_spread("packetloss", statistics.quality.loss, 1e2),
            **_spread("rtt_dsct", statistics.quality.round_trip, 1e6),
            "packets_lost": statistics.rtp.lost,
            "rtp_duplicates": statistics.rtp.duplicates,
            "rtp_reordered": statistics.rtp.reordered,
        },
        "controlstatistics": control,
        "interfaces": interfaces,
    }


def _spread(name: str, spread: Spread, scale: float = 1.0) -> Reply:
    """Sums in rtpengine's units (`scale` of ours): jitter in milliseconds, loss in percent, round trips in µs."""
    return {
        f"{name}_total": f"{spread.total * scale:.6f}",
        f"{name}2_total": f"{spread.squares * scale * scale:.6f}",
        f"{name}_samples_total": spread.samples,
        f"{name}_average": f"{spread.average * scale:.6f}",
        f"{name}_stddev": f"{spread.deviation * scale:.6f}",
    }


def _three_ways(name: str, value: int) -> Reply:
    return {f"{name}_user": value, f"{name}_kernel": 0, name: value}
