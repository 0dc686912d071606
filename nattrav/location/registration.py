"""Reading a REGISTER request into a Registration."""

from __future__ import annotations

from nattrav.location.bindings import ContactUpdate, Registration
from nattrav.sip.errors import MalformedMessage, UnsupportedScheme
from nattrav.sip.grammar import header_number
from nattrav.sip.message import MAX_EXPIRES, Request
from nattrav.sip.name_addr import NameAddr
from nattrav.sip.transport.flow import Flow

_MAX_REG_ID = 2**31 - 1


def read_registration(
    request: Request, aor: str, flow: Flow, *, path: tuple[str, ...] = (), tests: tuple[str, ...] = ()
) -> Registration:
    """Take from a REGISTER what it asks for.

    `path` comes before the Path values of the request. Raises MalformedMessage for Contacts that a registrar cannot
    take: no SIP URI, or `*` beside others or without Expires 0 (RFC 3261 §10.3 step 6).
    """
    contacts = request.contacts
    updates: tuple[ContactUpdate, ...] = ()
    remove_all = contacts == "*"
    if contacts == "*":
        if request.expires != 0:
            raise MalformedMessage("Contact * without Expires 0", request)
    else:
        outbound = "outbound" in request.tokens("supported")
        updates = tuple(_read_contact(contact, request, outbound=outbound) for contact in contacts)
    return Registration(
        aor=aor,
        contacts=updates,
        remove_all=remove_all,
        call_id=request.call_id,
        cseq=request.cseq.number,
        flow=flow,
        path=path + tuple(value.text for value in request.paths),
        user_agent=request.user_agent or "",
        tests=tests,
    )


def _read_contact(contact: NameAddr, request: Request, *, outbound: bool) -> ContactUpdate:
    try:
        _ = contact.sip_uri
    except UnsupportedScheme as problem:
        raise MalformedMessage(f"Contact with {problem.scheme}: cannot be reached", request) from None
    params = contact.params
    expires = header_number(params.get("expires"), MAX_EXPIRES) if "expires" in params else request.expires
    instance = params.get("+sip.instance")
    reg_id = header_number(params.get("reg-id"), _MAX_REG_ID)
    return ContactUpdate(
        uri=contact.uri,
        params=tuple((name, value) for name, value in params.items() if name != "expires"),
        q=_read_q(params.get("q")),
        expires=expires,
        instance=instance,
        # RFC 5626 §6: without the option tag or the instance a registrar ignores reg-id.
        reg_id=reg_id if outbound and instance is not None else None,
    )


def _read_q(value: str | None) -> float:
    if value is None or len(value) > 5:
        return 1.0
    try:
        q = float(value)
    except ValueError:
        return 1.0
    return q if 0.0 <= q <= 1.0 else 1.0
