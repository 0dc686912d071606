"""A ladder that is mailed around holds no digest and no key."""

from __future__ import annotations

from nattrav.cli.explain import redacted


def test_digests_nonces_and_media_keys_are_hidden_and_the_rest_stays() -> None:
    line = (
        '- Proxy-Authorization: Digest username="alice", realm="example", nonce="abc==", uri="sip:b@example", '
        'response="0123456789abcdef", algorithm=SHA-256, qop=auth, nc=00000001, cnonce="xyz"'
    )
    hidden = redacted(line)
    assert 'username="alice"' in hidden
    assert "nc=00000001" in hidden
    for secret in ("abc==", "0123456789abcdef", "xyz"):
        assert secret not in hidden
    assert redacted("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3") == (
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:***"
    )
    assert redacted("SIP/2.0 200 OK") == "SIP/2.0 200 OK"
