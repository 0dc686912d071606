"""The SIP NAT proxy as a process: listeners from the configuration, the core in its shell, verbs, records."""

from __future__ import annotations

import contextlib
import gc
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from nattrav.config.control import ControlAddress
from nattrav.config.schema import Configuration
from nattrav.config.sip import DEFAULT_PORTS, SipSection, User, parse_listen
from nattrav.control.ng.io.unix import auto_path
from nattrav.control.socket.io.client import Client, Unreachable
from nattrav.control.socket.messages import VerbError
from nattrav.daemon.hep import HepExporter
from nattrav.daemon.key_file import own_key
from nattrav.daemon.proxy_tls import tls_contexts, watch_certificates
from nattrav.daemon.proxy_verbs import ProxyVerbs
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.daemon.shared_key import shared_key
from nattrav.location.io.sqlite import SqliteJournal, StoreUnusable
from nattrav.location.memory import MemoryLocation
from nattrav.net import clock
from nattrav.net.address import AddressClass, TransportAddress, classify
from nattrav.net.interfaces import expand
from nattrav.net.options import open_udp
from nattrav.net.rounds import Rounds
from nattrav.proxy.accounts import configured
from nattrav.proxy.core import Proxy, location_limits
from nattrav.proxy.effects import Record
from nattrav.proxy.hooks import Hooks
from nattrav.proxy.io import hooks_file
from nattrav.proxy.io.relays import RelayAddress, Relays
from nattrav.proxy.io.shell import Shell
from nattrav.proxy.io.users import UserFile, UsersUnusable
from nattrav.proxy.listener import Listener
from nattrav.proxy.parts import Settings
from nattrav.sip.resolve import Abilities
from nattrav.sip.transport.flow import Flow, listener_id
from nattrav.sip.transport.io.resolver import NameService
from nattrav.sip.transport.io.transports import StunAnswerer, Transports
from stun.behavior import Endpoint
from stun.responder import Answer, Policy, Responder

RELAY_RECONNECT = 2.0
"""Seconds before the relay's control socket is tried again for its notices of silent sessions."""

WATCH_INTERVAL = 2.0
"""Seconds between two looks at the file of users, and at whether bindings get written."""

RECEIVE_BUFFER = 4 << 20
"""Room for a registration storm after a power cut, in octets."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound, and the listener it stands for."""

    sock: socket.socket
    listener: Listener


def open_listeners(sip: SipSection) -> list[Bound]:
    """Bind every listening address; StartRefused with the remedy when one cannot be bound."""
    bound: list[Bound] = []
    try:
        for text in sip.listen:
            spec = parse_listen(text)
            for transport in spec.transports:
                port = DEFAULT_PORTS[transport] if spec.port is None else spec.port
                shown = spec.advertised or sip.advertised
                bound.extend(_open(transport, host, port, shown) for host in expand(spec.host))
    except BaseException:
        for one in bound:
            one.sock.close()
        raise
    if not bound:
        raise StartRefused("[sip] listen names no address of this host: write one of its addresses, or 0.0.0.0")
    return bound


def _open(transport: str, host: str, port: int, advertised: str | None) -> Bound:
    address = TransportAddress(host, port)
    try:
        if transport == "udp":
            sock = open_udp(address, receive_buffer=RECEIVE_BUFFER, send_buffer=RECEIVE_BUFFER)
        else:
            sock = _open_stream(address)
    except OSError as error:
        raise StartRefused(
            f"cannot listen for SIP on {transport}:{address}: {error.strerror}; "
            "stop the program that has it, or change [sip] listen"
        ) from None
    name = sock.getsockname()
    local = TransportAddress(host, name[1])
    # What the world is told does not hold for loopback, which only programs on this host use.
    shown = host if advertised is None or classify(host) is AddressClass.LOOPBACK else advertised
    return Bound(sock, Listener(listener_id(transport, local), transport, local, shown, local.port))


def _open_stream(address: TransportAddress) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock


def reachable(bound: Iterable[Bound]) -> Abilities:
    """What next hops may be: transports we listen on (UDP first, as RFC 3263 §4.1 has it) and their families."""
    listeners = [one.listener for one in bound]
    transports = tuple(name for name in DEFAULT_PORTS if any(one.transport == name for one in listeners))
    families = tuple(sorted({6 if ":" in one.bound.host else 4 for one in listeners}))
    return Abilities(transports, families)


def relay_addresses(config: Configuration, directory: Path) -> list[RelayAddress]:
    """Where the configured relays listen."""
    found = []
    for address, weight in config.control.relay_choices():
        path = None
        if address.transport == "unix":
            path = address.path or str(auto_path(directory))
        found.append(RelayAddress(_name(address), weight, address.address, path))
    return found


def _name(address: ControlAddress) -> str:
    return str(address)


def write_last(core: Proxy, records: CallRecords) -> None:
    """Take the records of calls that ended while the relay still had to answer."""
    for effect in core.end():
        if isinstance(effect, Record):
            records.add(effect.fields)


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


class CallRecords:
    """Appends call records to a file, one JSON object a line, written together once a second."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        self._path = path
        self._complain = complain
        self._lines: list[str] = []

    def add(self, fields: dict[str, Any]) -> None:
        """Keep one for the next write."""
        self._lines.append(json.dumps(fields, separators=(",", ":")))

    def flush(self) -> None:
        """Write what was kept."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
        except OSError as error:
            self._complain(f"{self._path}: {error.strerror}")

    async def run(self, last: Callable[[], None]) -> None:
        """Write once a second until cancelled, then what `last` adds and what is left."""
        try:
            while True:
                await trio.sleep(1.0)
                self.flush()
        finally:
            last()
            self.flush()


def with_passwords(users: Iterable[User]) -> list[User]:
    """Read the password files of [[user]] tables."""
    found = []
    for user in users:
        if user.password_file is not None:
            try:
                password = Path(user.password_file).read_text().strip()
            except OSError as error:
                raise StartRefused(
                    f"[[user]] {user.name}: cannot read {user.password_file}: {error.strerror}; make it readable"
                ) from None
            user = user.model_copy(update={"password": password})
        found.append(user)
    return found


@contextlib.contextmanager
def settled_memory() -> Iterator[None]:
    """Keep the collector of reference cycles away from what lives as long as the process, and let it look less often.

    Messages and transactions are freed by their reference counts; a full search of a busy proxy's tables is a pause.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


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


def load_accounts(core: Proxy, users: UserFile) -> None:
    """Give the core the users of the file and of the configuration; the latter win."""
    settings = core.parts.settings
    try:
        stored = users.load(settings.realm)
    except UsersUnusable as unusable:
        raise StartRefused(str(unusable)) from None
    users.changed()
    core.accounts.replace([*configured(settings.users, settings.realm), *stored])


def load_hooks(core: Proxy, sip: SipSection, runtime: Runtime) -> None:
    """Give the core the operator's functions; StartRefused when their file cannot be loaded."""
    core.parts.utc_offset = float(clock.local_offset())
    if sip.hooks is None:
        return
    try:
        functions = hooks_file.load(Path(sip.hooks))
    except hooks_file.HooksUnusable as unusable:
        raise StartRefused(f"[sip] hooks: {unusable}; correct the file or leave the key out") from None
    core.parts.hooks = Hooks(
        functions,
        hooks_file.ProcessorTime(),
        lambda name, problem: runtime.log.error("hook failed", hook=name, problem=problem),
    )


def _warn_of_open_registrar(config: Configuration, runtime: Runtime, users: int) -> None:
    registrar = config.sip.registrar
    if config.sip.mode == "edge":
        return
    if registrar.authentication == "none":
        runtime.log.warning("anyone may register and call: [sip.registrar] authentication is none")
    elif registrar.authentication == "auto" and not users:
        runtime.log.warning(
            "no users are configured: only phones on private and loopback addresses may register and call; "
            "add [[user]] tables or `nattrav users add`"
        )


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
    bound = open_listeners(sip)
    settings = Settings(sip, config.upstream, with_passwords(config.user), config.quirk)
    users = UserFile(Path(sip.registrar.users_file) if sip.registrar.users_file else state / "users.sqlite")
    journal = open_journal(config, state)
    core = Proxy(
        settings,
        [one.listener for one in bound],
        [secret],
        secrets.token_bytes,
        wall_offset=clock.wall() - clock.monotonic(),
        location=location_service(sip, journal),
    )
    load_accounts(core, users)
    load_hooks(core, sip, runtime)
    core.restore(clock.monotonic())
    records = CallRecords(
        Path(sip.cdr_file) if sip.cdr_file else state / "cdr.jsonl",
        lambda problem: runtime.log.error("call records not written", problem=problem),
    )

    def log(level: str, event: str, facts: dict[str, Any]) -> None:
        getattr(runtime.log, level)(event, **facts)

    tls = tls_contexts(sip.tls, {one.listener.transport for one in bound})
    names = NameService(reachable(bound))
    copies = None
    if config.hep.target:
        copies = HepExporter(config.hep, config.node.name or socket.gethostname(), runtime.samples)
    shell = Shell(
        core,
        resolve=names.next_hops,
        count=runtime.samples.inc,
        observe=runtime.samples.observe,
        log=log,
        record=records.add,
        tap=None if copies is None else copies.tap,
    )
    rounds = Rounds()
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
    _warn_of_open_registrar(config, runtime, len(core.accounts))
    verbs = ProxyVerbs(core, shell, runtime)

    async def watch_users() -> None:
        while True:
            await trio.sleep(WATCH_INTERVAL)
            if users.changed():
                load_accounts(core, users)
                runtime.log.info("users read again", users=len(core.accounts))

    async def reap_silent_calls() -> None:
        while True:
            with contextlib.suppress(Unreachable, VerbError):
                async with Client.open(runtime.directory / "relay.sock") as client:
                    # What this proxy itself ended is most of what a relay has to tell.
                    async for event in client.stream("events", {"without": ["deleted"]}):
                        if event.get("event") == "session_closed":
                            shell.perform(core.session_closed(event["call_id"], event["reason"], clock.monotonic()))
            await trio.sleep(RELAY_RECONNECT)

    with settled_memory():
        async with closing_journal(journal), trio.open_nursery() as nursery:
            await nursery.start(runtime.serve_control, verbs.table())
            await nursery.start(shell.run)
            nursery.start_soon(records.run, lambda: write_last(core, records))
            if copies is not None:
                nursery.start_soon(copies.run)
            nursery.start_soon(reap_silent_calls)
            nursery.start_soon(watch_users)
            if journal is not None:
                nursery.start_soon(watch_journal, journal, runtime)
            nursery.start_soon(watch_certificates, tls, runtime)
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
