"""What hooks see of requests: plain values taken from the message and its sender."""

from __future__ import annotations

from nattrav.proxy.hooks import RegisterView, RequestView
from nattrav.proxy.parts import Parts
from nattrav.proxy.routing import Sender
from nattrav.sip.message import Request
from nattrav.sip.uri import SipUri


def register_view(request: Request, sender: Sender) -> RegisterView:
    """For `on_register`."""
    uri = request.to.sip_uri
    contacts = request.contacts
    return RegisterView(
        user=uri.user or "",
        domain=uri.host,
        source=str(sender.flow.remote),
        contacts=() if contacts == "*" else tuple(one.uri for one in contacts),
        expires=request.expires,
        user_agent=request.user_agent or "",
        nat_tests=tuple(sender.verdict.names),
    )


def request_view(request: Request, sender: Sender, parts: Parts, now: float) -> RequestView:
    """For `on_request`."""
    uri = request.uri
    local = parts.wall(now) + parts.utc_offset
    return RequestView(
        method=request.method,
        number=(uri.user or "") if isinstance(uri, SipUri) else uri.number,
        uri=request.request_uri,
        caller=request.from_.uri,
        source=str(sender.flow.remote),
        account=sender.user,
        upstream=None if sender.upstream is None else sender.upstream.name,
        user_agent=request.user_agent or "",
        hour=local % 86400 / 3600,
        weekday=int(local // 86400 + 3) % 7,
        header=request.first,
    )
