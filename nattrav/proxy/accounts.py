"""Accounts of the registrar: who exists in which domain, and the hash a digest is checked with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nattrav.config.sip import User
from nattrav.sip.digest import Algorithm, ha1


@dataclass(frozen=True, slots=True)
class Account:
    """One user. `domain` None serves every domain of ours; hashes are over user, realm and password."""

    name: str
    domain: str | None
    md5: str | None
    sha256: str | None

    def secret(self, algorithm: Algorithm) -> str | None:
        """The stored hash for an algorithm, None when it was never stored."""
        if algorithm is Algorithm.MD5:
            return self.md5
        if algorithm is Algorithm.SHA_256:
            return self.sha256
        return None


def account_of(name: str, domain: str | None, realm: str, password: str) -> Account:
    """Make an account of a password."""
    return Account(
        name, domain, ha1(Algorithm.MD5, name, realm, password), ha1(Algorithm.SHA_256, name, realm, password)
    )


class Accounts:
    """All accounts, by name. Those of the configuration win over those of the store.

    Lent ones exist for a self-test, for a few minutes; they are not counted, so that the registrar asks nobody else
    for credentials because of them.
    """

    def __init__(self, accounts: Iterable[Account] = ()) -> None:
        self._by_name: dict[str, list[Account]] = {}
        self._lent: dict[str, Account] = {}
        self.replace(accounts)

    def __len__(self) -> int:
        return len(self._by_name)

    def replace(self, accounts: Iterable[Account]) -> None:
        """Take a new set."""
        self._by_name.clear()
        for account in accounts:
            self._by_name.setdefault(account.name, []).append(account)

    def find(self, name: str, domain: str | None = None) -> Account | None:
        """Find a user; without a domain any user of that name."""
        found = self.named(name, domain)
        return found[0] if found else None

    def named(self, name: str, domain: str | None = None) -> list[Account]:
        """Every user of that name in a domain, or in all of them."""
        here = self._by_name.get(name, ())
        found = [one for one in here if domain is None or one.domain is None or one.domain == domain]
        lent = self._lent.get(name)
        return found if lent is None or found else [lent]

    def lend(self, account: Account) -> None:
        """Let a user exist for a while."""
        self._lent[account.name] = account

    def take_back(self, name: str) -> None:
        """End a lent account."""
        self._lent.pop(name, None)

    @property
    def lends(self) -> bool:
        """A self-test is running."""
        return bool(self._lent)

    def is_lent(self, name: str | None) -> bool:
        """Tell whether this user is a lent one."""
        return name in self._lent


def configured(users: Iterable[User], realm: str) -> list[Account]:
    """Make accounts of the [[user]] tables; their passwords come from the file already read."""
    found = []
    for user in users:
        if user.password is not None:
            made = account_of(user.name, user.domain, realm, user.password)
            found.append(Account(user.name, user.domain, user.ha1 or made.md5, user.ha1_sha256 or made.sha256))
        else:
            found.append(Account(user.name, user.domain, user.ha1, user.ha1_sha256))
    return found
