"""Asks the default gateway for its external address: UPnP IGD, NAT-PMP and PCP side by side."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import trio

from nattrav.net.address import TransportAddress, canonical
from stun.attributes import MalformedMessage
from stun.gateway import NAT_PMP_REQUEST, PORT, GatewayRefused, GatewayReport, nat_pmp_address, pcp_address, pcp_map
from stun.io.client import UdpClient, local_address_towards

_TRIES = (0.25, 0.5, 1.0)
_DISCOVERY_MILLISECONDS = 1500
_SILENT = "no answer"
_BORROWED_FOR = 30
"""Seconds that a PCP mapping may stay if taking it back fails."""


async def ask_gateway(gateway: str | None) -> GatewayReport:
    """Ask a router by all three protocols. None: this host has no default gateway."""
    if gateway is None:
        nobody = "no default gateway"
        return GatewayReport(None, upnp_failure=nobody, nat_pmp_failure=nobody, pcp_failure=nobody)
    try:
        local = local_address_towards(TransportAddress(gateway, PORT))
    except OSError as error:
        reason = error.strerror or "no route"
        return GatewayReport(gateway, upnp_failure=reason, nat_pmp_failure=reason, pcp_failure=reason)
    report = GatewayReport(gateway)

    async def keep(name: str, asking: Callable[[], object]) -> None:
        nonlocal report
        try:
            found = await asking()  # type: ignore[misc]
            report = replace(report, **{name: found})
        except GatewayRefused as refused:
            report = replace(report, **{f"{name}_failure": str(refused)})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, "nat_pmp", lambda: _nat_pmp(gateway, local))
        nursery.start_soon(keep, "pcp", lambda: _pcp(gateway, local))
        nursery.start_soon(keep, "upnp", lambda: _upnp(local))
    return report


async def _exchange(gateway: str, local: str, request: Callable[[int], bytes], read: Callable[[bytes], str]) -> str:
    """Send until an answer can be read. GatewayRefused when there is none or it says no."""
    client = await UdpClient.open(TransportAddress(local, 0))
    try:
        for wait in _TRIES:
            with suppress(OSError):
                await client.sock.sendto(request(client.local.port), (gateway, PORT))
            with trio.move_on_after(wait):
                while True:
                    data, source = await client.receive()
                    if source.host == canonical(gateway):
                        with suppress(MalformedMessage):
                            return read(data)
        raise GatewayRefused(_SILENT)
    finally:
        client.close()


async def _nat_pmp(gateway: str, local: str) -> str:
    return await _exchange(gateway, local, lambda _: NAT_PMP_REQUEST, nat_pmp_address)


async def _pcp(gateway: str, local: str) -> str:
    """PCP tells the external address with a mapping only: borrow one for the socket's own port, give it back."""
    nonce = secrets.token_bytes(12)
    client = await UdpClient.open(TransportAddress(local, 0))
    try:
        port = client.local.port
        found = await _exchange(
            gateway,
            local,
            lambda _: pcp_map(local, nonce, port, _BORROWED_FOR),
            lambda data: pcp_address(data, nonce),
        )
        with suppress(OSError):
            await client.sock.sendto(pcp_map(local, nonce, port, 0), (gateway, PORT))
        return found
    finally:
        client.close()


async def _upnp(local: str) -> str:
    """Ask an Internet gateway device; the library blocks, so a thread waits for it."""
    try:
        import miniupnpc  # noqa: F401
    except ImportError:
        raise GatewayRefused("needs miniupnpc: pip install 'nattrav[gateway]'") from None
    return await trio.to_thread.run_sync(_upnp_blocking, local, abandon_on_cancel=True)


def _upnp_blocking(local: str) -> str:
    import miniupnpc

    device = miniupnpc.UPnP(multicastif=local, discoverdelay=_DISCOVERY_MILLISECONDS)
    try:
        if not device.discover():
            raise GatewayRefused(_SILENT)
        device.selectigd()
        address = str(device.externalipaddress())
        return canonical(address)
    except ValueError:
        raise GatewayRefused("names no external address") from None
    except Exception as error:
        # The library raises bare Exception with its own words for everything a device may get wrong.
        if type(error) is not Exception:
            raise
        # "Success" is what it says when nobody answered its search.
        raise GatewayRefused(_SILENT if str(error) == "Success" else str(error)) from None
