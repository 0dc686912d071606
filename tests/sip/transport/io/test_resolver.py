"""The resolver against a name server on loopback."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import trio

from nattrav.net.address import TransportAddress
from nattrav.sip.resolve import Abilities, Answer, Hops, Question, Wanted
from nattrav.sip.transport.flow import Target
from nattrav.sip.transport.io.resolver import NameService

RECORDS = (
    ("example.com.", "NAPTR", ['10 50 "s" "SIP+D2U" "" _sip._udp.example.com.']),
    ("_sip._udp.example.com.", "SRV", ["1 0 5070 one.example.com."]),
    ("one.example.com.", "A", ["192.0.2.1"]),
    ("mail.example.com.", "MX", ["1 one.example.com."]),
)
SOA = "ns.example.com. host.example.com. 1 60 60 60 33"


class NameServer:
    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.silent = False

    def answer(self, data: bytes) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        self.asked[f"{question.name} {dns.rdatatype.to_text(question.rdtype)}"] += 1
        if self.silent:
            return None
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        names = [name for name, _, _ in RECORDS]
        for name, kind, texts in RECORDS:
            if name == question.name.to_text() and kind == dns.rdatatype.to_text(question.rdtype):
                reply.answer.append(dns.rrset.from_text(name, 120, "IN", kind, *texts))
        if not reply.answer:
            reply.authority.append(dns.rrset.from_text("example.com.", 120, "IN", "SOA", SOA))
            if question.name.to_text() not in names:
                reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()


@asynccontextmanager
async def name_server() -> AsyncIterator[tuple[NameServer, NameService]]:
    server = NameServer()
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))

    async def serve() -> None:
        while True:
            data, peer = await sock.recvfrom(4096)
            reply = server.answer(data)
            if reply is not None:
                await sock.sendto(reply, peer)

    service = NameService(
        Abilities(("udp", "tcp"), (4,)), nameservers=("127.0.0.1",), port=sock.getsockname()[1], timeout=0.5
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield server, service
        nursery.cancel_scope.cancel()
    sock.close()


async def test_naptr_srv_and_address_lead_to_the_next_hop_which_is_then_cached() -> None:
    wanted = Wanted("example.com", None, None)
    expected = Hops((Target("udp", TransportAddress("192.0.2.1", 5070), "example.com"),))
    async with name_server() as (server, service):
        assert service.cached(wanted) is None
        assert await service.resolve(wanted) == expected
        assert service.cached(wanted) == expected
        asked = server.asked.copy()
        assert await service.resolve(wanted) == expected
        assert server.asked == asked


async def test_the_same_question_is_asked_once_however_many_wait_for_it() -> None:
    async with name_server() as (server, service):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(service.resolve, Wanted("one.example.com", 5060, None))
        assert server.asked["one.example.com. A"] == 1


async def test_names_and_types_that_are_not_there_are_remembered_for_their_time() -> None:
    async with name_server() as (_, service):
        assert await service.ask(Question("one.example.com", "SRV")) == Answer((), 33.0)
        assert (await service.ask(Question("gone.example.com", "A"))).records == ()
        assert await service.resolve(Wanted("gone.example.com", 5060, None)) == Hops(
            (), "gone.example.com does not exist"
        )


async def test_a_name_server_that_is_silent_is_told_as_a_failure() -> None:
    async with name_server() as (server, service):
        server.silent = True
        assert await service.resolve(Wanted("one.example.com", 5060, None)) == Hops((), "no answer from the DNS")


async def test_a_name_that_cannot_be_asked_for_is_a_failure_and_no_exception() -> None:
    async with name_server() as (_, service):
        for name in ("a" * 70 + ".example.com", "x..y", "\xff\xfe.example.com"):
            assert (await service.resolve(Wanted(name, 5060, None))).targets == ()
