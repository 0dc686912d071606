"""The [stun] table: what it accepts and what it says when it does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from nattrav.config.stun import StunSection


def test_the_defaults_serve_this_host_on_3478() -> None:
    section = StunSection()
    assert (section.listen, section.alternate, section.port, section.alternate_port) == (["auto"], [], 3478, 3479)


def test_addresses_take_their_canonical_spelling() -> None:
    section = StunSection(listen=["10.0.0.1!198.51.100.1", "2001:DB8:0::1", "auto"])
    assert section.listen == ["10.0.0.1!198.51.100.1", "2001:db8::1", "auto"]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"listen": ["example.net"]}, "not an IP address"),
        ({"listen": []}, "at least 1 item"),
        ({"alternate": ["auto"]}, "name the second address"),
        ({"alternate": ["198.51.100.2", "198.51.100.3"]}, "two addresses of one family"),
        ({"alternate": ["198.51.100.2"], "alternate_port": 3478}, "two ports"),
        ({"exempt": ["192.0.2.1/24"]}, "not a prefix"),
        ({"threads": 0}, "greater than or equal to 1"),
        ({"source_rate": -1}, "greater than or equal to 0"),
        ({"classic": "yes"}, "'on', 'plain' or 'off'"),
        ({"nonsense": 1}, "not permitted"),
        ({"tls_certificate": "/x.pem"}, "belong together"),
        ({"tls_certificate": "/x.pem", "tls_key": "/y.pem", "tls_port": 3478}, "shares a port"),
        ({"credentials": "short-term"}, "nobody has any"),
        ({"credentials": "long-term", "users": {"a": "b"}}, "need a realm"),
        ({"alternate_servers": ["192.0.2.1:3478"]}, "only authenticated clients"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        StunSection(**values)
