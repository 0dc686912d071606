"""A running proxy follows a new configuration: the next message is handled by it; calls and bindings stay."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import trio

from nattrav.config.schema import Configuration
from nattrav.config.sip import SipSection, User
from nattrav.daemon.apply import Prepared
from nattrav.daemon.call_records import CallRecords
from nattrav.daemon.hep import HepExporter
from nattrav.daemon.proxy_setup import make_hooks, relay_addresses, warn_of_open_registrar, with_passwords
from nattrav.daemon.proxy_tls import note_certificates, tls_contexts
from nattrav.daemon.runtime import Runtime, StartRefused
from nattrav.daemon.shared_key import shared_key
from nattrav.net import clock
from nattrav.proxy.accounts import Account, configured
from nattrav.proxy.core import Proxy
from nattrav.proxy.io.shell import Shell
from nattrav.proxy.io.users import UserFile, UsersUnusable
from nattrav.proxy.parts import Settings
from nattrav.sip.transport.io.tls import TlsContexts

USERS_INTERVAL = 2.0
"""Seconds between two looks at the file of users."""


@dataclass(frozen=True)
class Accounts:
    """Users as they were read: those of the configuration, and the file of the others."""

    configured: list[User]
    stored: list[Account]
    file: UserFile


def read_accounts(config: Configuration, state: Path, realm: str) -> Accounts:
    """Read password files and the file of users; StartRefused when one cannot be used."""
    registrar = config.sip.registrar
    file = UserFile(Path(registrar.users_file) if registrar.users_file else state / "users.sqlite")
    try:
        stored = file.load(realm)
    except UsersUnusable as unusable:
        raise StartRefused(str(unusable)) from None
    file.changed()
    return Accounts(with_passwords(config.user), stored, file)


class Copies:
    """The exporter of message copies, which comes, goes and changes with the configuration."""

    def __init__(self, shell: Shell, runtime: Runtime) -> None:
        self._shell = shell
        self._runtime = runtime
        self._nursery: trio.Nursery | None = None
        self._exporter: HepExporter | None = None
        self._scope = trio.CancelScope()

    def prepare(self, config: Configuration) -> HepExporter | None:
        """Make an exporter; StartRefused when the collector cannot be reached. None without one."""
        if not config.hep.target:
            return None
        return HepExporter(config.hep, config.node.name or socket.gethostname(), self._runtime.samples)

    def use(self, exporter: HepExporter | None) -> None:
        """Send copies through this exporter from now on."""
        self._scope.cancel()
        self._scope = trio.CancelScope()
        if self._exporter is not None:
            self._shell.remove_tap(self._exporter.tap)
        self._exporter = exporter
        if exporter is not None:
            self._shell.add_tap(exporter.tap)
        if exporter is not None and self._nursery is not None:
            self._nursery.start_soon(self._run, exporter, self._scope)

    async def run(self, first: HepExporter | None, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.use(first)
            task_status.started()
            await trio.sleep_forever()

    @staticmethod
    async def _run(exporter: HepExporter, scope: trio.CancelScope) -> None:
        with scope:
            await exporter.run()


class ProxyFollower:
    """Changes one proxy while it runs."""

    def __init__(
        self,
        core: Proxy,
        shell: Shell,
        runtime: Runtime,
        *,
        accounts: Accounts,
        records: CallRecords,
        tls: TlsContexts,
        copies: Copies,
    ) -> None:
        self._core = core
        self._shell = shell
        self._runtime = runtime
        self._users = accounts.file
        self._records = records
        self._tls = tls
        self._copies = copies

    def prepare(self, new: Configuration) -> Prepared:
        """Read files, make contexts. StartRefused when a file or address cannot be used."""
        core, runtime, state = self._core, self._runtime, self._runtime.state_directory
        realm = core.parts.settings.realm
        accounts = read_accounts(new, state, realm)
        settings = Settings(new.sip, new.upstream, accounts.configured, new.quirk, kept_realm=realm)
        hooks = make_hooks(new.sip, runtime)
        tls = tls_contexts(new.sip.tls, {one.transport for one in core.parts.listeners.all})
        key = shared_key(new.control.shared_key_file)
        relays = relay_addresses(new, runtime.directory)
        exporter = self._copies.prepare(new)

        def carry_out() -> None:
            core.follow(settings, clock.monotonic())
            core.parts.hooks = hooks
            self._take_accounts(accounts)
            self._tls.replace(tls)
            note_certificates(tls, core.parts.listeners.all, runtime)
            if self._shell.relays is not None:
                self._shell.relays.follow(relays, new.control.first_retry, key)
            self._copies.use(exporter)
            self._records.path = records_path(new.sip, state)
            warn_of_open_registrar(new, runtime, len(core.accounts))

        # Nonces, flow tokens and stored passwords belong to the realm that the process began with.
        moved = Settings(new.sip).realm != realm
        left = ("sip.domains",) if moved else ()
        return Prepared(carry_out, left, lambda: None if exporter is None else exporter.close())

    def _take_accounts(self, accounts: Accounts) -> None:
        self._users = accounts.file
        realm = self._core.parts.settings.realm
        self._core.accounts.replace([*configured(accounts.configured, realm), *accounts.stored])

    async def watch_users(self) -> None:
        """Read the file of users again whenever it has changed, until cancelled."""
        while True:
            await trio.sleep(USERS_INTERVAL)
            if not self._users.changed():
                continue
            settings = self._core.parts.settings
            try:
                stored = self._users.load(settings.realm)
            except UsersUnusable as unusable:
                self._runtime.log.error("users not read again, the old ones hold", problem=str(unusable))
                continue
            self._core.accounts.replace([*configured(settings.users, settings.realm), *stored])
            self._runtime.log.info("users read again", users=len(self._core.accounts))


def records_path(sip: SipSection, state: Path) -> Path:
    """Where call records go."""
    return Path(sip.cdr_file) if sip.cdr_file else state / "cdr.jsonl"
