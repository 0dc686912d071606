"""The SIP NAT proxy as a process: listeners from the configuration, the core in its shell, verbs, records."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from nattrav.config.schema import Configuration
from nattrav.config.sip import SipSection
from nattrav.control.socket.io.client import Client, Unreachable
from nattrav.control.socket.messages import VerbError
from nattrav.daemon.apply import apply_verb
from nattrav.daemon.call_records import CallRecords, write_last
from nattrav.daemon.garbage import search_in_quiet, settled_memory
from nattrav.daemon.handover import left_bound
from nattrav.daemon.key_file import own_key
from nattrav.daemon.proxy_follow import Copies, ProxyFollower, read_accounts, records_path
from nattrav.daemon.proxy_listen import open_listeners, reachable
from nattrav.daemon.proxy_setup import make_hooks, relay_addresses, warn_of_open_registrar
from nattrav.daemon.proxy_tls import tls_contexts, watch_certificates
from nattrav.daemon.proxy_verbs import ProxyVerbs
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.daemon.shared_key import shared_key
from nattrav.location.io.sqlite import SqliteJournal, StoreUnusable
from nattrav.location.memory import MemoryLocation
from nattrav.net import clock
from nattrav.net.rounds import Rounds
from nattrav.proxy.accounts import configured
from nattrav.proxy.core import Proxy, location_limits
from nattrav.proxy.io.call_store import CallStore, CallsUnreadable
from nattrav.proxy.io.relays import Relays
from nattrav.proxy.io.shell import Shell
from nattrav.proxy.listener import Listener
from nattrav.proxy.parts import Settings
from nattrav.sip.transport.flow import Flow
from nattrav.sip.transport.io.resolver import NameService
from nattrav.sip.transport.io.transports import StunAnswerer, Transports
from stun.behavior import Endpoint
from stun.responder import Answer, Policy, Responder

RELAY_RECONNECT = 2.0
"""Seconds before the relay's control socket is tried again for its notices of silent sessions."""

SHORTEST_SAVED = 5.0
"""Seconds that a call must have lasted before it is written: those that are shorter cost nothing."""

SAVE_INTERVAL, SAVED_AT_ONCE = 0.25, 200
"""Seconds between two writes of calls in progress, and how many at most: nobody waits for them for long."""

WATCH_INTERVAL = 2.0
"""Seconds between two looks at whether bindings get written."""


def stun_answerer(listeners: list[Listener]) -> StunAnswerer:
    """Answer STUN Binding requests on the SIP port (RFC 5626 §4.4.2: an edge must)."""
    numbers = {listener.id: number for number, listener in enumerate(listeners)}
    responder = Responder(
        tuple(Endpoint(listener.bound, listener.bound) for listener in listeners), Policy(minimal=True)
    )

    def answer(data: bytes, flow: Flow) -> bytes | None:
        given = responder.respond(data, numbers[flow.listener], flow.remote)
        return given.data if isinstance(given, Answer) else None

    return answer


def open_journal(config: Configuration, state: Path) -> SqliteJournal | None:
    """Open the file that keeps bindings over a restart, if the configuration wants one."""
    if config.location.backend == "memory":
        return None
    path = Path(config.location.file) if config.location.file else state / "bindings.sqlite"
    try:
        return SqliteJournal(path)
    except StoreUnusable as unusable:
        raise StartRefused(str(unusable)) from None


@contextlib.asynccontextmanager
async def closing_journal(journal: SqliteJournal | None) -> AsyncIterator[None]:
    """Write what is queued when the proxy ends."""
    try:
        yield
    finally:
        if journal is not None:
            journal.close()


def open_call_store(config: Configuration, state: Path) -> CallStore | None:
    """Open the file that keeps calls in progress over a restart, if the configuration keeps anything."""
    if config.location.backend == "memory":
        return None
    try:
        return CallStore(state / "calls.sqlite")
    except CallsUnreadable as unusable:
        raise StartRefused(str(unusable)) from None


async def save_calls(core: Proxy, store: CallStore, runtime: Runtime) -> None:
    """Write every few seconds what changed of calls in progress, at the end all that is left; then tell of failures."""
    told: str | None = None
    while True:
        try:
            await trio.sleep(SAVE_INTERVAL)
        except trio.Cancelled:
            store.write(*core.changed_calls())
            raise
        put, removed = core.changed_calls(clock.monotonic() - SHORTEST_SAVED, SAVED_AT_ONCE)
        if not put and not removed:
            continue
        problem = await trio.to_thread.run_sync(store.write, put, removed)
        if problem != told:
            told = problem
            if problem is not None:
                runtime.log.error(
                    "calls not written: a restart would forget them", file=str(store.path), problem=problem
                )


async def watch_journal(journal: SqliteJournal, runtime: Runtime) -> None:
    """Tell when bindings can no longer be written, and when they can again."""
    told: str | None = None
    while True:
        await trio.sleep(WATCH_INTERVAL)
        problem = journal.problem
        if problem != told:
            told = problem
            if problem is None:
                runtime.log.info("bindings written again", file=str(journal.path))
            else:
                runtime.log.error(
                    "bindings not written: a restart would lose them; free the disk or correct [location] file",
                    file=str(journal.path),
                    problem=problem,
                )


def location_service(sip: SipSection, journal: SqliteJournal | None) -> MemoryLocation:
    """Make the location service, with the bindings of before the restart."""
    wall = clock.wall()
    known = journal.load(wall) if journal is not None else []
    return MemoryLocation(location_limits(sip), known=known, journal=journal, first_serial=int(wall))


async def serve(
    config: Configuration,
    *,
    runtime: Runtime,
    task_status: trio.TaskStatus[list[Listening]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve SIP until cancelled."""
    sip = config.sip
    state = runtime.state_directory
    path = Path(sip.token_key_file) if sip.token_key_file else state / "flow-token.key"
    secret = own_key(path, "name another file in [sip] token_key_file")
    bound = open_listeners(sip, runtime.inherited.take)
    accounts = read_accounts(config, state, Settings(sip).realm)
    settings = Settings(sip, config.upstream, accounts.configured, config.quirk)
    journal = open_journal(config, state)
    call_store = open_call_store(config, state)
    core = Proxy(
        settings,
        [one.listener for one in bound],
        [secret],
        secrets.token_bytes,
        wall_offset=clock.wall() - clock.monotonic(),
        location=location_service(sip, journal),
    )
    core.accounts.replace([*configured(settings.users, settings.realm), *accounts.stored])
    core.parts.utc_offset = float(clock.local_offset())
    core.parts.hooks = make_hooks(sip, runtime)
    core.restore(clock.monotonic(), call_store.load() if call_store is not None else ())
    records = CallRecords(
        records_path(sip, state),
        lambda problem: runtime.log.error("call records not written", problem=problem),
    )

    def log(level: str, event: str, facts: dict[str, Any]) -> None:
        getattr(runtime.log, level)(event, **facts)

    tls = tls_contexts(sip.tls, {one.listener.transport for one in bound})
    names = NameService(reachable(bound))
    shell = Shell(
        core,
        resolve=names.next_hops,
        observe=runtime.samples.observe,
        log=log,
        record=records.add,
    )
    copies = Copies(shell, runtime)
    exporter = copies.prepare(config)
    rounds = Rounds()
    rounds.hurried = shell.hurried
    stun = stun_answerer([one.listener for one in bound])
    shell.transports = Transports(shell.deliver, stun=stun, tls=tls, rounds=rounds)
    for one in bound:
        if one.listener.transport == "udp":
            shell.transports.add_udp(one.sock)
        else:
            shell.transports.add_stream(one.listener.transport, one.sock)
    shell.relays = Relays(
        relay_addresses(config, runtime.directory),
        shell.relay_answered,
        lambda relay, up: runtime.log.warning("relay answers again" if up else "relay does not answer", relay=relay),
        rounds=rounds,
        cookie_prefix=secrets.token_hex(6),
        first_retry=config.control.first_retry,
        key=shared_key(config.control.shared_key_file),
    )
    warn_of_open_registrar(config, runtime, len(core.accounts))
    follower = ProxyFollower(core, shell, runtime, accounts=accounts, records=records, tls=tls, copies=copies)
    verbs = {**ProxyVerbs(core, shell, runtime).table(), "config.apply": apply_verb(runtime, config, follower.prepare)}

    async def reap_silent_calls() -> None:
        while True:
            with contextlib.suppress(Unreachable, VerbError):
                async with Client.open(runtime.directory / "relay.sock") as client:
                    # What this proxy itself ended is most of what a relay has to tell.
                    async for event in client.stream("events", {"without": ["deleted"]}):
                        if event.get("event") == "session_closed":
                            shell.perform(core.session_closed(event["call_id"], event["reason"], clock.monotonic()))
            await trio.sleep(RELAY_RECONNECT)

    with settled_memory(), left_bound(runtime.leave, [one.sock.fileno() for one in bound]):
        async with closing_journal(journal), trio.open_nursery() as nursery:
            await nursery.start(runtime.serve_control, verbs)
            await nursery.start(shell.run)
            nursery.start_soon(records.run, lambda: write_last(core, records))
            await nursery.start(copies.run, exporter)
            nursery.start_soon(reap_silent_calls)
            nursery.start_soon(search_in_quiet, lambda: shell.received)
            nursery.start_soon(follower.watch_users)
            if journal is not None:
                nursery.start_soon(watch_journal, journal, runtime)
            if call_store is not None:
                nursery.start_soon(save_calls, core, call_store, runtime)
            nursery.start_soon(watch_certificates, tls, [one.listener for one in bound], runtime)
            task_status.started(
                [
                    runtime.listening(
                        "SIP",
                        one.listener.transport,
                        one.listener.bound,
                        f"{one.listener.advertised}:{one.listener.port}",
                    )
                    for one in bound
                ]
            )
