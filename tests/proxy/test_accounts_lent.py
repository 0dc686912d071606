from __future__ import annotations

from nattrav.proxy.accounts import Accounts, account_of


def test_a_lent_account_is_found_but_not_counted_until_it_is_taken_back() -> None:
    accounts = Accounts()
    assert not accounts.lends
    accounts.lend(account_of("guest", None, "realm", "word"))
    assert accounts.find("guest", "any.example") is not None
    assert accounts.is_lent("guest")
    assert len(accounts) == 0
    accounts.take_back("guest")
    assert accounts.find("guest") is None
    assert not accounts.is_lent("guest")
    assert not accounts.lends


def test_a_lent_account_never_replaces_a_real_one() -> None:
    real = account_of("guest", None, "realm", "real")
    accounts = Accounts([real])
    accounts.lend(account_of("guest", None, "realm", "lent"))
    assert accounts.find("guest") is real
