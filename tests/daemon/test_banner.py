from __future__ import annotations

from nattrav.daemon.banner import listening_table, warnings
from nattrav.daemon.runtime import Listening


def test_the_table_aligns_its_columns() -> None:
    lines = listening_table(
        [
            Listening("proxy", "SIP", "udp", "198.51.100.1:5060", "198.51.100.1:5060"),
            Listening("supervisor", "metrics", "http", "127.0.0.1:8080"),
        ]
    ).splitlines()
    assert lines == [
        "service     what     transport  listens on         advertised as",
        "----------  -------  ---------  -----------------  -----------------",
        "proxy       SIP      udp        198.51.100.1:5060  198.51.100.1:5060",
        "supervisor  metrics  http       127.0.0.1:8080",
    ]


def test_a_private_address_is_warned_of_once_with_all_it_is_used_for() -> None:
    listeners = [Listening("proxy", what, "udp", "10.0.0.5:1", "10.0.0.5:1") for what in ("SIP", "SIP", "STUN")]
    assert warnings(listeners) == [
        "10.0.0.5 is advertised for SIP, STUN, and nobody beyond your own network (private) can reach it; "
        "set the public address as ADDRESS!PUBLIC in the configuration"
    ]


def test_loopback_is_warned_of_only_where_nothing_else_is_advertised() -> None:
    local = Listening("stun", "STUN", "udp", "127.0.0.1:3478", "127.0.0.1:3478")
    public = Listening("stun", "STUN", "udp", "198.51.100.1:3478", "198.51.100.1:3478")
    assert "only this host can reach it" in warnings([local])[0]
    assert warnings([local, public]) == []


def test_public_and_absent_addresses_are_no_reason_to_warn() -> None:
    assert (
        warnings([Listening("proxy", "SIP", "udp", "x", "sip.example.com"), Listening("relay", "ng", "unix", "/x")])
        == []
    )
