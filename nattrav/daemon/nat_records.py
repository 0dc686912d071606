"""Feeds the NAT records from the data threads' notes, and answers the `nat.*` verbs."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from typing import Any

import trio

from nattrav.config.stun import StunSection
from nattrav.control.socket.messages import VerbError
from nattrav.net.clock import monotonic, wall
from stun.behavior import primary
from stun.io.server import UdpServer
from stun.nat_records import NatRecords, describe, source_of
from stun.observation import observations

_INTERVAL = 0.5
_READ_MAX, _PLAIN_MAX = 400, 100
"""Requests looked at per interval, telling and plain ones: the record keeper takes a few percent of a core at most."""
_LIST_MAX = 10_000


class RecordKeeper:
    """The records of one STUN service."""

    def __init__(self, section: StunSection, udp: UdpServer) -> None:
        self._section = section
        self._udp = udp
        self._secret = secrets.token_bytes(32)
        endpoints = udp.endpoints
        self._primary = primary(endpoints)
        self.records = NatRecords(
            endpoints,
            capacity=section.nat_records_max,
            retention=section.nat_records_retention,
            sees_all=udp.kernel is None,
        )

    def follow(self, section: StunSection) -> None:
        """Keep and show by this section from now on."""
        self._section = section
        self.records.capacity, self.records.retention = section.nat_records_max, section.nat_records_retention

    async def run(self) -> None:
        """Read the notes until cancelled."""
        while True:
            await trio.sleep(_INTERVAL)
            notes = [note for t in self._udp.data_threads if t.notebook is not None for note in t.notebook.read()]
            for observation in observations(notes, self._primary, _READ_MAX, _PLAIN_MAX):
                self.records.receive(observation)
            self.records.handle_timeout(monotonic())

    def verbs(self) -> dict[str, Any]:
        """What the control socket answers."""
        return {"nat.list": self.list, "nat.show": self.show, "nat.lookup": self.lookup, "nat.forget": self.forget}

    async def list(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        """List records, the most recently seen first; `limit` of them."""
        self._required()
        now = monotonic()
        shown = []
        for record in self.records.newest(min(int(args.get("limit", 100)), _LIST_MAX)):
            entry = describe(record, now)
            del entry["fields"]
            shown.append(entry | {"address": self._shown(record.host)})
        return shown

    async def show(self, args: dict[str, Any]) -> dict[str, Any]:
        """Give one record with the basis of every field."""
        self._required()
        record = self.records.find(_host(args.get("address")))
        if record is None:
            raise VerbError("not_found", f"no record of {args.get('address')}: the server has not seen it twice")
        return describe(record, monotonic())

    async def lookup(self, args: dict[str, Any]) -> dict[str, Any]:
        """Give what is known of each of `addresses`; unknown ones are left out."""
        now = monotonic()
        found = {}
        for text in args.get("addresses", ()):
            record = self.records.find(_host(text))
            if record is not None:
                found[str(text)] = describe(record, now)
        return found

    async def forget(self, args: dict[str, Any]) -> bool:
        """Erase one record."""
        if not self.records.forget(_host(args.get("address"))):
            raise VerbError("not_found", f"no record of {args.get('address')}")
        return True

    def _required(self) -> None:
        if not self._section.nat_records:
            raise VerbError("refused", "NAT records are switched off: set nat_records = true in [stun]")

    def _shown(self, host: str) -> str:
        match self._section.nat_records_show:
            case "full":
                return host
            case "prefix":
                return str(ipaddress.ip_network(f"{host}/{48 if ':' in host else 24}", strict=False))
            case "hash":
                day = int(wall() // 86400).to_bytes(4, "big")
                key = hmac.digest(self._secret, day, "sha256")
                return hashlib.blake2s(host.encode(), key=key, digest_size=8).hexdigest()


def _host(text: Any) -> str:
    try:
        return source_of(str(text)).host
    except ValueError as error:
        raise VerbError("invalid", str(error)) from None
