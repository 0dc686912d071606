"""The STUN service: data threads under a trio main thread that answers control verbs and copies counters."""

from __future__ import annotations

import trio

from nattrav.config.schema import Configuration
from nattrav.daemon.apply import apply_verb
from nattrav.daemon.certificates import note_expiry
from nattrav.daemon.handover import left_bound
from nattrav.daemon.nat_records import RecordKeeper
from nattrav.daemon.runtime import Listening, Runtime
from nattrav.daemon.stun_follow import StunFollower
from nattrav.daemon.stun_kernel import offload
from nattrav.daemon.stun_setup import limits, load_certificate, make_responder, make_streams, nonce_key, refused
from nattrav.daemon.stun_verbs import StunVerbs
from nattrav.net.options import Take, nothing_waits
from stun.behavior import Endpoint
from stun.io.server import UdpServer
from stun.io.streams import Certificate, StreamServer
from stun.responder import Responder

_WATCH = 0.5
_CERTIFICATE_CHECK = 30.0


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
        kernel_path = offload(section, udp, runtime)
        udp.start()
        descriptors = [*udp.descriptors(), *(number for s in streams.values() for number in s.descriptors())]
        with left_bound(runtime.leave, descriptors):
            async with trio.open_nursery() as nursery:
                keeper = RecordKeeper(section, udp)
                service = StunVerbs(runtime, udp, list(streams.values()), keeper, kernel_path)
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
