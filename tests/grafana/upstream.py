"""A gateway in thirty lines: answers OPTIONS with 200 and every INVITE with 486."""

from __future__ import annotations

import socket
import sys

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    data, source = sock.recvfrom(65535)
    try:
        request = parse_datagram_untrusted(data)
    except MalformedMessage:
        continue
    if isinstance(request, Request) and request.method != "ACK":
        if request.method == "INVITE":
            sock.sendto(respond(request, 180, to_tag="busy"), source)
        status = 486 if request.method == "INVITE" else 200
        sock.sendto(respond(request, status, to_tag="busy"), source)
