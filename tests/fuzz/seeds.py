"""What the mutations of a target start from, by the first word of the target's name."""

from __future__ import annotations

from types import ModuleType

from tests.vectors import rfc4475, rfc5118

_MESSAGES = [vector.octets for vector in rfc4475.VECTORS + rfc5118.VECTORS]
_BODIES = [body for body in (octets.partition(b"\r\n\r\n")[2] for octets in _MESSAGES) if body.startswith(b"v=0")]
VALUES = sorted(
    {
        line.partition(b":")[2].strip()
        for octets in _MESSAGES
        for line in octets.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    }
)
"""Every header field value of the vectors, for targets that parse values."""
_STUN = [
    bytes.fromhex("000100002112a442") + bytes(range(12)),
    bytes.fromhex("000100082112a442") + bytes(range(12)) + bytes.fromhex("0003000400000006"),
    bytes.fromhex("0001000c2112a442")
    + bytes(range(12))
    + bytes.fromhex("80220003616263ff")
    + bytes.fromhex("80280004"),
    bytes.fromhex("0101000c2112a442") + bytes(range(12)) + bytes.fromhex("002000080001a147e112a643"),
    bytes.fromhex("00010000") + bytes(range(16)),
]
_NG = [
    b"1 d7:command4:pinge",
    b'2 {"command":"ping"}',
    b"3 d7:call-id1:a7:command5:query8:from-tag1:be",
    b"4 d7:call-id1:a7:command5:offer5:flagsl8:trust5:labele8:from-tag1:b3:sdp"
    + str(len(_BODIES[0])).encode()
    + b":"
    + _BODIES[0]
    + b"e",
    b"d4:listli1ei-2ee3:str0:e",
]
_BY_WORD = {"sip": _MESSAGES, "sdp": _BODIES, "stun": _STUN, "ng": _NG}


def seeds_for(name: str, module: ModuleType) -> list[bytes]:
    """The module's own `SEEDS`, or those of its protocol."""
    own = getattr(module, "SEEDS", None)
    if own is not None:
        return list(own)
    return list(_BY_WORD.get(name.partition("_")[0], [b"", *_MESSAGES[:3], *_STUN]))
