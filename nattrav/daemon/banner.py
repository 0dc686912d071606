"""The table that a start prints: what listens where, what is advertised, and a warning when nobody could reach it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nattrav.daemon.runtime import Listening
from nattrav.net.address import NON_PUBLIC, AddressClass, TransportAddress, classify

_TITLES = ("service", "what", "transport", "listens on", "advertised as")


def listening_table(listeners: Sequence[Listening]) -> str:
    """Write one line a listener, the same columns for all, and the warnings below."""
    rows = [
        _TITLES,
        *((one.role, one.what, one.transport, one.address, one.advertised or "") for one in listeners),
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_TITLES))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, *(f"warning: {warning}" for warning in warnings(listeners))])


def warnings(listeners: Iterable[Listening]) -> list[str]:
    """Tell which advertised addresses the Internet cannot reach."""
    found: dict[str, list[str]] = {}
    reachable: set[str] = set()
    for one in listeners:
        host = _host(one.advertised)
        if host is None:
            continue
        if classify(host) in NON_PUBLIC:
            found.setdefault(host, []).append(one.what)
        if classify(host) is not AddressClass.LOOPBACK:
            reachable.add(one.what)
    told = []
    for host, names in found.items():
        kind = classify(host)
        local = kind is AddressClass.LOOPBACK
        # A loopback listener beside a real one is there for this host's own programs.
        names = [name for name in dict.fromkeys(names) if not (local and name in reachable)]
        word = "only this host" if local else f"nobody beyond your own network ({kind.value})"
        if names:
            told.append(
                f"{host} is advertised for {', '.join(names)}, and {word} can reach it; "
                "set the public address as ADDRESS!PUBLIC in the configuration"
            )
    return told


def _host(advertised: str | None) -> str | None:
    if not advertised:
        return None
    try:
        return TransportAddress.parse(advertised, 0).host
    except ValueError:
        return None
