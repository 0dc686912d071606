from __future__ import annotations

from nattrav.control.socket.messages import Failure, Request, decode_reply, decode_request
from nattrav.control.socket.server import Connection

SEEDS = [
    b'{"id":1,"verb":"sessions.list","args":{"limit":3}}\n',
    b'{"id":2,"ok":true,"result":[1,null]}\n{"id":3,"end":true}\n',
]


def target(data: bytes) -> None:
    """Any octets become requests or failures to send; requests survive the wire; replies raise only ValueError."""
    server = Connection(limit=4096)
    for found in [*server.receive(data[: len(data) // 2]), *server.receive(data[len(data) // 2 :])]:
        assert isinstance(found, Request | Failure)
        assert found.encode().endswith(b"\n")
        if isinstance(found, Request):
            assert decode_request(found.encode()) == found
    for line in data.splitlines():
        try:
            decode_reply(line)
        except ValueError:
            continue
