"""SDP inside a multipart body goes through the relay; every other octet of the body stays (RFC 5621)."""

from __future__ import annotations

import pytest

from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, request, response, sdp
from tests.proxy.test_calls_through_nat import only

MIXED = 'multipart/mixed; boundary="b1"'


def mixed(description: str, disposition: str = "session") -> str:
    return (
        "before\r\n--b1\r\nContent-Type: application/isup;version=itu-t92+\r\n\r\n\x01\x11\x00\xff\r\n"
        f"--b1\r\nContent-Type: application/sdp\r\nContent-Disposition: {disposition}\r\n\r\n{description}"
        "\r\n--b1--\r\n"
    )


def test_only_the_description_changes_in_a_multipart_invite() -> None:
    stage = Stage()
    text = request("INVITE", f"sip:+431234@{US}", body=mixed(sdp("10.0.0.5")), content_type=MIXED)
    _, invite = stage.send(PHONE, text.encode("latin-1"))
    body = invite.message.body
    assert b"10.0.0.5" not in body
    assert body.startswith(
        b"before\r\n--b1\r\nContent-Type: application/isup;version=itu-t92+\r\n\r\n\x01\x11\x00\xff\r\n--b1"
    )
    assert body.endswith(b"\r\n--b1--\r\n")
    assert invite.message.first("content-type") == MIXED
    assert int(invite.message.first("content-length") or "0") == len(body)
    assert stage.relay.commands == ["offer"]


def test_an_early_session_is_left_alone() -> None:
    stage = Stage()
    body = mixed(sdp("10.0.0.5"), "early-session")
    _, invite = stage.send(
        PHONE, request("INVITE", f"sip:+431234@{US}", body=body, content_type=MIXED).encode("latin-1")
    )
    assert invite.message.body == body.encode("latin-1")


@pytest.mark.parametrize("kind", ["multipart/mixed", "text/plain"])
def test_a_body_without_a_description_passes_untouched(kind: str) -> None:
    stage = Stage()
    _, invite = stage.send(PHONE, request("INVITE", f"sip:+431234@{US}", body="hello", content_type=kind))
    assert invite.message.body == b"hello"
    ok = only(stage.send(GATEWAY, response(invite, 200)))
    assert ok.message.body == b""
