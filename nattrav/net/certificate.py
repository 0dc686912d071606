"""When a certificate ends: just enough of DER (X.690) and X.509 (RFC 5280 §4.1) to read its validity."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def not_after(pem: str) -> float:
    """Give the end of validity of the first certificate of a PEM text, in Unix time. ValueError when it is none."""
    begin = pem.find("-----BEGIN CERTIFICATE-----")
    end = pem.find("-----END CERTIFICATE-----", begin)
    if begin < 0 or end < 0:
        raise ValueError("no certificate in PEM form")
    data = ssl.PEM_cert_to_DER_cert(pem[begin : end + len("-----END CERTIFICATE-----")])
    certificate = _contents(data, _SEQUENCE)
    fields = _elements(_contents(certificate, _SEQUENCE))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    # serialNumber, signature, issuer, validity
    if len(fields) < 4:
        raise ValueError("a certificate without a validity")
    times = _elements(fields[3][1])
    if len(times) != 2:
        raise ValueError("a validity without two times")
    return _time(*times[1])


def _time(kind: int, text: bytes) -> float:
    if kind not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError(f"a time of type {kind}")
    digits = text.decode("ascii").removesuffix("Z")
    if kind == _UTC_TIME:
        digits = ("19" if int(digits[:2]) >= 50 else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()


def _contents(data: bytes, kind: int) -> bytes:
    found = _elements(data)
    if not found or found[0][0] != kind:
        raise ValueError("not the structure of a certificate")
    return found[0][1]


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Split DER into (tag, contents)."""
    found = []
    position = 0
    while position < len(data):
        if len(data) - position < 2:
            raise ValueError("cut off")
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[position : position + count], "big")
            position += count
        if position + length > len(data):
            raise ValueError("cut off")
        found.append((tag, data[position : position + length]))
        position += length
    return found
