from __future__ import annotations

from contextlib import suppress

from nattrav.sip.digest import Credentials
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import parse_params, split_first, split_list
from nattrav.sip.name_addr import NameAddr
from nattrav.sip.uri import SipUri, parse_uri
from nattrav.sip.via import Via
from tests.fuzz.seeds import VALUES

SEEDS = [*VALUES, b"sips:alice:secret@[2001:db8::1]:5061;transport=tls;lr?subject=x&priority=y", b"tel:+1-201-555-0123"]


def target(data: bytes) -> None:
    """Values raise MalformedMessage or keep their text; URIs equal themselves; lists split into what joins again."""
    text = data.decode("latin-1")
    for parse in (NameAddr.parse, Via.parse, parse_uri):
        with suppress(MalformedMessage):
            assert str(parse(text)) == text
    with suppress(MalformedMessage):
        uri = SipUri.parse(text)
        again = SipUri.parse(
            str(SipUri.build(uri.host, user=uri.user, port=uri.port, scheme=uri.scheme, params=uri.params))
        )
        assert again == uri or uri.headers is not None or uri.password is not None
        hash(uri)
        _ = uri.address_of_record
    with suppress(MalformedMessage):
        parse_params(text)
    with suppress(MalformedMessage):
        Credentials.parse("Digest " + text)
    elements = split_list(text)
    first, rest = split_first(text)
    assert first.strip(" \t") == elements[0]
    assert (len(elements) == 1) == (rest == "" and first == text)
