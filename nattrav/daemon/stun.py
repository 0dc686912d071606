"""The STUN service: data threads under a trio main thread that answers control verbs and copies counters."""

from __future__ import annotations

import errno
import secrets
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from nattrav.config.schema import Configuration
from nattrav.config.stun import StunSection
from nattrav.daemon.apply import Prepared, apply_verb
from nattrav.daemon.certificates import note_expiry
from nattrav.daemon.handover import left_bound
from nattrav.daemon.key_file import own_key
from nattrav.daemon.nat_records import RecordKeeper
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.net.address import TransportAddress
from nattrav.net.bpf.programs import Mode
from nattrav.net.clock import monotonic
from nattrav.net.interfaces import expand
from nattrav.net.options import Take, nothing_waits
from stun.admission import Limits
from stun.behavior import Endpoint, ServerAddress, lay_out
from stun.counters import CHANGES, CODES, FAMILIES, TRANSPORTS, Counters
from stun.credentials import Authenticator, LongTerm, ShortTerm
from stun.io.server import UdpServer
from stun.io.streams import Certificate, StreamLimits, StreamServer
from stun.offload.io.loader import OffloadRefused, leave_xdp
from stun.responder import Policy, Responder

_WATCH = 0.5
_CERTIFICATE_CHECK = 30.0


def server_addresses(section: StunSection) -> list[ServerAddress]:
    """Turn listen and alternate addresses into what to serve; an alternate goes to the first address of its family."""
    alternates = {":" in a: a for a in section.alternate}
    served: dict[str, ServerAddress] = {}
    for entry in section.listen:
        address, _, shown = entry.partition("!")
        for host in expand(address):
            # What a 1:1 NAT in front shows is not what loopback shows.
            advertised = "" if address == "auto" and host.startswith("127.") else shown
            if host == alternates.get(":" in host, "").partition("!")[0]:
                continue
            partner = alternates.pop(":" in host, "") if not host.startswith("127.") or address != "auto" else ""
            served.setdefault(host, ServerAddress.parse(f"{host}!{advertised}" if advertised else host, partner))
    if alternates:
        left = ", ".join(alternates.values())
        raise StartRefused(f"[stun] alternate {left}: no listen address of that family; add one to [stun] listen")
    return list(served.values())


def make_responder(section: StunSection, nonce_key: bytes = b"", *, tls: bool = False) -> Responder:
    """Build the responder a section describes, for UDP and TCP or for TLS. StartRefused when its addresses clash."""
    ports = (section.tls_port, section.tls_alternate_port) if tls else (section.port, section.alternate_port)
    try:
        endpoints = lay_out(server_addresses(section), *ports)
    except ValueError as error:
        raise StartRefused(f"[stun] {error}; correct listen and alternate") from None
    policy = Policy(
        classic=section.classic,
        software=section.software,
        minimal=section.minimal,
        strict_change_request=section.strict_change_request,
        response_port=section.response_port,
        response_address=section.response_address,
        padding_limit=section.padding_limit,
        alternate_servers=tuple(TransportAddress.parse(text) for text in section.alternate_servers),
        alternate_domain=section.alternate_domain,
    )
    return Responder(endpoints, policy, make_authenticator(section, nonce_key))


def nonce_key(section: StunSection, state_directory: Path) -> bytes:
    """Give the key of nonces: kept in the state directory, so that clients need no fresh ones after a restart."""
    if section.credentials != "long-term":
        return b""
    return own_key(state_directory / "stun-nonce.key", "make the state directory writable")


def make_authenticator(section: StunSection, nonce_key: bytes = b"") -> Authenticator | None:
    """Build the credential mechanism, if one is demanded."""
    match section.credentials:
        case "none":
            return None
        case "short-term":
            return ShortTerm(section.users)
        case "long-term":
            return LongTerm(section.realm, section.users, (nonce_key or secrets.token_bytes(32),))


def limits(section: StunSection) -> Limits:
    """Give the section's limits in the server's terms."""
    return Limits(
        source_rate=section.source_rate,
        source_burst=section.source_burst,
        network_rate=section.network_rate,
        network_burst=section.network_burst,
        guarded_rate=section.error_rate,
        guarded_burst=section.error_burst,
        total_rate=section.total_rate,
        exempt=tuple(section.exempt),
    )


def stream_limits(section: StunSection) -> StreamLimits:
    """Give what peers on TCP and TLS may hold."""
    return StreamLimits(section.connections, section.connections_per_host, section.connection_idle)


def refused(what: str, error: OSError) -> StartRefused:
    """Say in one line why an address cannot be bound, and what helps."""
    match error.errno:
        case errno.EADDRINUSE:
            remedy = "another program has it: stop that one or change [stun] port"
        case errno.EADDRNOTAVAIL:
            remedy = "this host does not have that address: correct [stun] listen and alternate"
        case errno.EACCES:
            remedy = "ports below 1024 need CAP_NET_BIND_SERVICE: change [stun] port"
        case _:
            remedy = "correct [stun] listen, alternate and port"
    return StartRefused(f"cannot listen on {error.filename} ({what}): {error.strerror}; {remedy}")


async def serve(
    config: Configuration, *, runtime: Runtime, task_status: trio.TaskStatus[list[Listening]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled. StartRefused when an address cannot be bound."""
    section = config.stun
    key = nonce_key(section, runtime.state_directory)
    responder = make_responder(section, key)
    take = runtime.inherited.take if len(runtime.inherited) else nothing_waits
    udp = UdpServer(responder, limits(section), threads=section.threads, observe=section.nat_records, take=take)
    certificate = load_certificate(section)
    streams = make_streams(section, responder, udp, certificate, key)
    await open_all(udp, streams, take)
    try:
        offload(section, udp, runtime)
        udp.start()
        descriptors = [*udp.descriptors(), *(number for s in streams.values() for number in s.descriptors())]
        with left_bound(runtime.leave, descriptors):
            async with trio.open_nursery() as nursery:
                keeper = RecordKeeper(section, udp)
                service = Service(runtime, udp, list(streams.values()), keeper)
                if section.nat_records:
                    nursery.start_soon(keeper.run)
                follower = StunFollower(runtime.state_directory, udp, streams, keeper, certificate)
                verbs = (
                    service.verbs() | keeper.verbs() | {"config.apply": apply_verb(runtime, config, follower.prepare)}
                )
                await nursery.start(runtime.serve_control, verbs)
                for server in streams.values():
                    nursery.start_soon(server.run)
                if certificate is not None:
                    nursery.start_soon(_refresh, certificate, streams["TLS"], runtime)
                task_status.started(_listening(runtime, streams, responder))
                await _watch(udp)
    finally:
        udp.close()


async def open_all(udp: UdpServer, streams: dict[str, StreamServer], take: Take = nothing_waits) -> None:
    """Bind everything or nothing; what is bound already is taken. StartRefused names the address that cannot be had."""
    try:
        udp.open()
    except OSError as error:
        raise refused("STUN over UDP", error) from None
    for name, server in streams.items():
        try:
            await server.open(take)
        except OSError as error:
            udp.close()
            for opened in streams.values():
                await opened.close()
            raise refused(f"STUN over {name}", error) from None


def offload(section: StunSection, udp: UdpServer, runtime: Runtime) -> None:
    """Have the kernel answer too, where that is wanted. StartRefused when it must and cannot."""
    company = runtime.company()
    if section.offload == "off":
        leave_xdp(company)
        return
    mode = None if section.offload_mode == "auto" else Mode(section.offload_mode)
    try:
        udp.offload(interfaces=section.offload_interfaces, mode=mode, company=company)
    except OffloadRefused as refused:
        if section.offload == "xdp":
            raise StartRefused(f"[stun] offload: {refused}") from None
        runtime.log.warning("requests are answered in user space", reason=str(refused))


def load_certificate(section: StunSection) -> Certificate | None:
    """Read the TLS files, if there are any. StartRefused when they cannot be used."""
    if not section.tls_certificate:
        return None
    try:
        return Certificate(Path(section.tls_certificate), Path(section.tls_key))
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise StartRefused(
            f"[stun] tls_certificate {section.tls_certificate} with tls_key {section.tls_key}: {reason}; "
            "name a PEM chain and the key that fits it"
        ) from None


def make_streams(
    section: StunSection,
    responder: Responder,
    udp: UdpServer,
    certificate: Certificate | None,
    key: bytes = b"",
) -> dict[str, StreamServer]:
    """Build the servers of the stream transports that are switched on, by their names."""
    bounds = stream_limits(section)
    servers = {}
    if section.tcp:
        servers["TCP"] = StreamServer(responder, udp.admission, udp.lock, bounds)
    if certificate is not None:
        secured = make_responder(section, key, tls=True)
        servers["TLS"] = StreamServer(secured, udp.admission, udp.lock, bounds, tls=certificate.context)
    return servers


async def _refresh(certificate: Certificate, server: StreamServer, runtime: Runtime) -> None:
    listeners = [f"stun-tls:{endpoint.local}" for endpoint in server.endpoints]
    while True:
        note_expiry(runtime.samples, certificate.chain, listeners)
        await trio.sleep(_CERTIFICATE_CHECK)
        if not certificate.refresh():
            runtime.log.warning("TLS certificate cannot be read again; the old one stays")


async def _watch(udp: UdpServer) -> None:
    """End the service when a data thread ended: the supervisor starts it anew, and half a server answers nobody."""
    while True:
        await trio.sleep(_WATCH)
        if (failure := udp.failure()) is not None:
            raise RuntimeError("a STUN data thread ended") from failure
        if udp.kernel is not None:
            udp.kernel.look_around()


def _listening(runtime: Runtime, streams: dict[str, StreamServer], responder: Responder) -> list[Listening]:
    def what(endpoint: Endpoint) -> str:
        return "STUN, RFC 5780 pair" if endpoint.changed is not None else "STUN"

    served = {"UDP": responder.endpoints, **{name: server.endpoints for name, server in streams.items()}}
    return [
        runtime.listening(what(e), name.lower(), e.local, e.advertised)
        for name, endpoints in served.items()
        for e in endpoints
    ]


class StunFollower:
    """Changes one STUN service while it runs: what it answers, to whom, how much, and what it remembers."""

    def __init__(
        self,
        state_directory: Path,
        udp: UdpServer,
        streams: dict[str, StreamServer],
        keeper: RecordKeeper,
        certificate: Certificate | None,
    ) -> None:
        self._state_directory = state_directory
        self._udp = udp
        self._streams = streams
        self._keeper = keeper
        self._certificate = certificate

    def prepare(self, new: Configuration) -> Prepared:
        """Build responders, read the certificate. StartRefused when addresses clash or a file cannot be used."""
        section = new.stun
        wanted = load_certificate(section)
        key = nonce_key(section, self._state_directory)
        responder = make_responder(section, key)
        secured = make_responder(section, key, tls=True) if "TLS" in self._streams else responder

        def carry_out() -> None:
            self._udp.follow(responder, limits(section))
            for name, server in self._streams.items():
                server.follow(secured if name == "TLS" else responder, stream_limits(section))
            if self._certificate is not None and wanted is not None:
                self._certificate.replace(Path(section.tls_certificate), Path(section.tls_key))
            self._keeper.follow(section)

        left = ("stun.tls_certificate", "stun.tls_key") if (wanted is None) != (self._certificate is None) else ()
        return Prepared(carry_out, left)


class Service:
    """The verbs of the STUN service."""

    def __init__(self, runtime: Runtime, udp: UdpServer, streams: Sequence[StreamServer], keeper: RecordKeeper) -> None:
        self._runtime = runtime
        self._udp = udp
        self._streams = streams
        self._keeper = keeper

    def _counters(self) -> Counters:
        return Counters.total([self._udp.counters(), *(server.counters for server in self._streams)])

    def verbs(self) -> dict[str, Any]:
        """What the control socket answers."""
        return {"metrics": self.metrics, "stun.stats": self.stats}

    async def metrics(self, args: dict[str, Any]) -> Any:
        """Copy the counters into the samples and give them."""
        copy_counters(self._counters(), self._runtime)
        samples, now = self._runtime.samples, monotonic()
        samples.set("nattrav_stun_ratelimit_buckets", self._udp.admission.size())
        samples.set("nattrav_stun_ratelimit_buckets_used", self._udp.admission.in_use(now))
        samples.set("nattrav_stun_nat_records", len(self._keeper.records))
        samples.clear("nattrav_stun_nat_clients")
        for (mapping, filtering), clients in self._keeper.records.shares().items():
            samples.set("nattrav_stun_nat_clients", clients, mapping, filtering)
        kernel = self._udp.kernel
        samples.set("nattrav_stun_offload_active", float(kernel is not None and kernel.attached))
        answered = 0 if kernel is None else int(kernel.counters().responses.sum())
        samples.set("nattrav_stun_offload_responses_total", answered)
        for thread in self._udp.data_threads:
            samples.set("nattrav_worker_cpu_seconds_total", thread.cpu_seconds(), "stun", str(thread.number))
            alive = thread.failure is None
            samples.set("nattrav_worker_up", float(alive), "stun", str(thread.number))
        return samples.export()

    async def stats(self, args: dict[str, Any]) -> dict[str, Any]:
        """Give the counters in words."""
        counters = self._counters()
        requests, responses = int(counters.requests.sum()), int(counters.responses.sum())
        sent, received = int(counters.response_bytes[0]), int(counters.request_bytes[0])
        return {
            "requests": requests,
            "responses": responses,
            "errors": responses - int(counters.responses[:, 0].sum()),
            "dropped": {word: count for word, count in counters.drops().items() if count},
            "change_requests": dict(zip(CHANGES, counters.changes.tolist(), strict=True)),
            "amplification": round(sent / received, 3) if received else 0.0,
            "receive_overflows": self._udp.overflows(),
            "send_errors": {errno.errorcode.get(c, str(c)): n for c, n in self._udp.send_errors().items()},
            "connections": sum(server.connections for server in self._streams),
            "connections_refused": sum(server.refused for server in self._streams),
            "outside_fast_path": int(counters.slow[0]),
            "offload": self._offloaded(),
            "rate_limit_buckets": self._udp.admission.size(),
            "rate_limit_buckets_used": self._udp.admission.in_use(monotonic()),
            "threads": [{"number": t.number, "cpu_seconds": t.cpu_seconds()} for t in self._udp.data_threads],
        }

    def _offloaded(self) -> dict[str, Any] | None:
        """What the kernel answers; None when it does not. CPU time stands still unless BPF statistics are on."""
        kernel = self._udp.kernel
        if kernel is None:
            return None
        return {
            "interfaces": kernel.how if kernel.attached else "none: the configuration now needs user space",
            "answered": int(kernel.counters().responses.sum()),
            "cpu_seconds": kernel.run_time().seconds,
        }


def copy_counters(counters: Counters, runtime: Runtime) -> None:
    """Put the data threads' counts under the metrics' names."""
    samples = runtime.samples
    for row, transport in enumerate(TRANSPORTS):
        for column, family in enumerate(FAMILIES):
            count = int(counters.requests[row, column])
            samples.set("nattrav_stun_requests_total", count, transport.value, str(family), "binding")
        for column, code in enumerate(CODES):
            count = int(counters.responses[row, column])
            if count or code == 0:
                kind = "error" if code else "success"
                samples.set("nattrav_stun_responses_total", count, transport.value, kind, str(code))
    for reason, dropped in counters.drops().items():
        samples.set("nattrav_stun_dropped_total", dropped, reason)
    for change, number in zip(CHANGES, counters.changes.tolist(), strict=True):
        samples.set("nattrav_stun_change_requests_total", number, change)
    samples.set("nattrav_stun_request_bytes_total", int(counters.request_bytes[0]))
    samples.set("nattrav_stun_response_bytes_total", int(counters.response_bytes[0]))
