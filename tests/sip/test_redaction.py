"""A message that is mailed around holds no digest and no key."""

from __future__ import annotations

from nattrav.sip.redaction import redacted


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
    assert redacted("a=ice-pwd:YH75Fviy6338Vbrhrlp8Yh") == "a=ice-pwd:***"
    assert redacted("k=base64:c2VjcmV0") == "k=***"
    assert redacted("Authorization: Basic YWxpY2U6c2VjcmV0") == "Authorization: Basic ***"


def test_a_quoted_secret_with_commas_and_an_unended_one_are_hidden_whole() -> None:
    assert redacted('Digest response="a, b",\r\n nc=1') == "Digest response=***,\r\n nc=1"
    assert redacted('Digest nonce = "never ended\r\nVia: x') == "Digest nonce = ***\r\nVia: x"
