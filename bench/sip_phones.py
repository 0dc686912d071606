"""Many phones in one process: each has an address of its own, registers once and answers every OPTIONS.

`python -m bench.sip_phones SERVER COUNT RATE`. One socket serves them all: the namespace takes 198.18.0.0/15 for
local, and each datagram says by IP_PKTINFO which phone it is from. Prints a line each second until it is killed.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
import time

FIRST = int(ipaddress.ip_address("198.18.0.1"))
PORT = 5060
RETRY = 4.0
_IP_PKTINFO = 8


def address(number: int) -> bytes:
    return (FIRST + number).to_bytes(4, "big")


def register(number: int, server: str, attempt: int) -> bytes:
    return (
        f"REGISTER sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKp{number}a{attempt};rport\r\n"
        f"From: <sip:u{number}@{server}>;tag=f{number}\r\nTo: <sip:u{number}@{server}>\r\n"
        f"Call-ID: {number:08x}-4fd3-9f1b@10.0.0.5\r\nCSeq: {attempt} REGISTER\r\n"
        f"Contact: <sip:u{number}@10.0.0.5:5060>\r\nMax-Forwards: 70\r\nExpires: 3600\r\nUser-Agent: phone/1.0\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def answer(ping: bytes) -> bytes | None:
    """200 to a request: its Via, From, To, Call-ID and CSeq given back."""
    if not ping.startswith(b"OPTIONS "):
        return None
    lines = ping.split(b"\r\n")
    kept = [line for line in lines[1:] if line[:5].lower() in (b"via: ", b"from:", b"to: <", b"call-", b"cseq:")]
    kept = [line + b";tag=p" if line[:3].lower() == b"to:" else line for line in kept]
    return b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"User-Agent: phone/1.0", b"Content-Length: 0", b"", b""])


def main(server: str, count: int, rate: float) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    sock.bind(("", PORT))
    sock.settimeout(0.002)
    target = (server, PORT)
    waiting: dict[int, float] = {}
    attempts = [0] * count
    begun = told = time.monotonic()
    sent = registered = answered = 0

    def send(data: bytes, source: bytes) -> None:
        sock.sendmsg([data], [(socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=I4s4s", 0, source, source))], 0, target)

    def ask(number: int, now: float) -> None:
        attempts[number] += 1
        waiting[number] = now
        send(register(number, server, attempts[number]), address(number))

    while True:
        now = time.monotonic()
        while sent < min(count, int((now - begun) * rate)):
            ask(sent, now)
            sent += 1
        for number, since in list(waiting.items())[:50]:
            if now - since < RETRY:
                break
            del waiting[number]
            ask(number, now)
        try:
            for _ in range(64):
                data, control, _, _ = sock.recvmsg(2048, 64)
                phone = control[0][2][8:12]
                reply = answer(data)
                if reply is not None:
                    answered += 1
                    send(reply, phone)
                elif data.startswith(b"SIP/2.0 200 "):
                    registered += waiting.pop(int.from_bytes(phone, "big") - FIRST, None) is not None
        except TimeoutError:
            pass
        if now - told >= 1.0:
            told = now
            print(f"registered {registered} answered {answered}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
