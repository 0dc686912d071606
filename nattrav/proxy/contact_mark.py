"""Contacts that name the way back, for devices whose quirk says so: an `alias` parameter, or a Contact of ours.

Our Record-Route needs neither. They are for cores that lose route sets: `alias` adds a signed token to the Contact
URI, `rewrite` puts our own address in its place and keeps the device's URI beside the token. Both are taken off the
Request-URI again, so that the device finds there, octet by octet, what it sent as Contact. Other proxies write
`alias=ip~port~proto` unsigned, with which anyone could make us send anywhere.
"""

from __future__ import annotations

import base64
import binascii

from nattrav.proxy.contact_values import with_uri
from nattrav.proxy.flow_token import looks_like_token
from nattrav.proxy.listener import Listener
from nattrav.sip.edit import Edit
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Message
from nattrav.sip.uri import SipUri

ALIAS = "alias"
ORIGINAL = "was"


def mark_contact(edit: Edit, message: Message, token: str, ours: Listener | None) -> None:
    """Mark the Contact of a message on its way; with `ours` it is rewritten to that listener, else only marked."""
    if message.names.count("contact") != 1:
        return
    try:
        contacts = message.contacts
        if contacts == "*" or len(contacts) != 1:
            return
        uri = contacts[0].sip_uri
    except MalformedMessage:
        return
    edit.replace_line(edit.names.index("contact"), with_uri(contacts[0], marked(uri, token, ours)))


def marked(uri: SipUri, token: str, ours: Listener | None) -> str:
    """Give the URI that stands for the device's from now on."""
    if ours is None:
        return uri.with_param(ALIAS, token).text
    kept = base64.urlsafe_b64encode(uri.text.encode("latin-1")).decode().rstrip("=")
    params: dict[str, str | None] = {ALIAS: token, ORIGINAL: kept}
    if ours.transport != "udp":
        params["transport"] = "ws" if ours.transport == "wss" else ours.transport
    return SipUri.build(ours.advertised, user=uri.user, port=ours.port, scheme=uri.scheme, params=params).text


def unmarked(text: str) -> tuple[str, str] | None:
    """Take a mark of ours off a Request-URI: the token, not yet verified, and the device's own URI; None without one.

    Raises MalformedMessage when the URI kept in it is none.
    """
    uri = SipUri.parse(text)
    token = uri.params.get(ALIAS)
    if token is None or not looks_like_token(token):
        return None
    kept = uri.params.get(ORIGINAL)
    if kept is None:
        return token, uri.without(ALIAS).text
    try:
        original = base64.b64decode(kept + "=" * (-len(kept) % 4), altchars=b"-_", validate=True).decode("latin-1")
    except binascii.Error:
        raise MalformedMessage("the Contact kept in the Request-URI cannot be read") from None
    return token, SipUri.parse(original).text
