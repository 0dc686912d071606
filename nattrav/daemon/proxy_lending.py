"""Lends accounts to `nattrav selftest` for the time of its call."""

from __future__ import annotations

import secrets
from typing import Any

from nattrav.control.socket.messages import VerbError
from nattrav.net.clock import monotonic
from nattrav.proxy.accounts import Accounts, account_of
from nattrav.proxy.core import Proxy
from nattrav.proxy.timers import Timed

Args = dict[str, Any]

_LENT_FOR = 300.0
"""Seconds after which the accounts of a self-test that was cut off end by themselves."""


class _Lent(Timed):
    """A lent account that ends when nobody has taken it back."""

    __slots__ = ("accounts", "name")

    def __init__(self, accounts: Accounts, name: str) -> None:
        super().__init__()
        self.accounts = accounts
        self.name = name

    def expire(self, now: float) -> None:
        self.accounts.take_back(self.name)


class Lending:
    """The verbs `selftest.begin` and `selftest.end` of one proxy."""

    def __init__(self, core: Proxy) -> None:
        self._core = core

    async def begin(self, args: Args) -> list[dict[str, str]]:
        """Lend two accounts."""
        core = self._core
        if core.parts.sip.mode == "edge":
            raise VerbError("refused", "the core behind this edge knows the users: name two as USER:PASSWORD")
        lent = []
        for side in ("a", "b"):
            name, password = f"selftest-{side}-{secrets.token_hex(4)}", secrets.token_urlsafe(18)
            core.accounts.lend(account_of(name, None, core.parts.settings.realm, password))
            core.parts.timers.set(_Lent(core.accounts, name), monotonic() + _LENT_FOR)
            lent.append({"user": name, "password": password})
        return lent

    async def end(self, args: Args) -> None:
        """Take accounts back."""
        for name in args.get("users", []):
            self._core.accounts.take_back(str(name))
