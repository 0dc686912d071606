"""Makes inputs out of seeds: the same seeds and the same number always make the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

# Pieces that parsers of text and of lengths stumble over.
PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\r\n ", b"\r\n\r\n", b";", b",", b"=", b":", b'"', b"\\", b"<", b">",
    b"[", b"]", b"@", b"?", b"%", b"%00", b"%zz", b"*", b"-1", b"0", b"65536", b"4294967296", b"9" * 30, b"\xff",
    b"\xc3\x28", b"::", b":::", b"SIP/2.0", b"z9hG4bK", b"Via: ", b"v:", b"l:", b"Content-Length: ", b"rport", b"tag=",
    b"sip:", b"tel:", b"m=", b"c=IN IP6 ", b"a=", b"i99999999999e", b"d", b"l", b"e", b"\x21\x12\xa4\x42",
)  # fmt: skip
MAX_SIZE = 8192


def mutations(seeds: Sequence[bytes], random: Random) -> Iterator[bytes]:
    """Give inputs without end: first the seeds as they are, then changed ones."""
    yield from seeds
    while True:
        data = bytearray(random.choice(seeds))
        for _ in range(1 + int(random.expovariate(0.7))):
            _change(data, seeds, random)
        yield bytes(data[:MAX_SIZE])


def _change(data: bytearray, seeds: Sequence[bytes], random: Random) -> None:
    size = len(data)
    at = random.randrange(size + 1)
    kind = random.randrange(9)
    if kind == 0 and size:
        data[at % size] ^= 1 << random.randrange(8)
    elif kind == 1 and size:
        data[at % size] = random.randrange(256)
    elif kind == 2:
        data[at:at] = random.choice(PIECES)
    elif kind == 3:
        piece = random.choice(PIECES)
        data[at : at + len(piece)] = piece
    elif kind == 4:
        del data[at : at + random.randrange(1, 32)]
    elif kind == 5:
        data[at:at] = data[at : at + random.randrange(1, 64)] * random.randrange(1, 4)
    elif kind == 6:
        other = random.choice(seeds)
        start = random.randrange(len(other) + 1)
        data[at : at + random.randrange(64)] = other[start : start + random.randrange(128)]
    elif kind == 7 and random.random() < 0.2:
        del data[at:]
    else:
        data[at:at] = bytes([random.randrange(256)]) * random.choice((1, 1, 1, 2, 300))
