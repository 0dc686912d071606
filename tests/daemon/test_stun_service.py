"""The STUN service under trio: it listens, answers verbs, copies counters and ends cleanly."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.config.schema import Configuration
from nattrav.control.socket.io.client import ask
from nattrav.control.socket.messages import VerbError
from nattrav.daemon import stun as service
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.net.address import TransportAddress
from stun.io.client import UdpClient
from stun.io.probe import Prober
from stun.message import BINDING, MessageClass, encode


def configuration(**stun: Any) -> Configuration:
    return Configuration.model_validate({"stun": stun})


def free_port() -> int:
    """A UDP port that is free, with its neighbour, on both loopback addresses just now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = int(sock.getsockname()[1])
        try:
            for host in ("127.0.0.1", "127.0.0.2"):
                for candidate in (port, port ^ 1):
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                        sock.bind((host, candidate))
        except OSError:
            continue
        return port


def pair(port: int, **more: Any) -> Configuration:
    return configuration(listen=["127.0.0.1"], alternate=["127.0.0.2"], port=port, alternate_port=port ^ 1, **more)


async def test_the_service_answers_requests_verbs_and_metrics(tmp_path: Path) -> None:
    runtime = Runtime("stun", tmp_path, tmp_path)
    port = free_port()
    async with trio.open_nursery() as nursery:
        listening: list[Listening] = await nursery.start(partial(service.serve, pair(port), runtime=runtime))
        assert [(entry.transport, entry.address) for entry in listening] == [
            (transport, f"{host}:{number}")
            for transport in ("udp", "tcp")
            for host in ("127.0.0.1", "127.0.0.2")
            for number in (port, port ^ 1)
        ]
        client = await UdpClient.open(TransportAddress("127.0.0.9", 0))
        request = encode(BINDING, MessageClass.REQUEST, bytes(12))
        outcome = await client.ask(request, TransportAddress("127.0.0.1", port))
        assert outcome.mapped == client.local
        assert outcome.other == TransportAddress("127.0.0.2", port ^ 1)
        client.close()
        stats = await ask(runtime.control_path, "stun.stats", {})
        assert (stats["requests"], stats["responses"], stats["amplification"]) == (1, 1, 3.4)
        exported = await ask(runtime.control_path, "metrics", {})
        assert [["udp", "4", "binding"], 1] in exported["nattrav_stun_requests_total"]
        assert [["udp", "success", "0"], 1] in exported["nattrav_stun_responses_total"]
        assert exported["nattrav_stun_ratelimit_buckets"] == [[[], 65536]]
        nursery.cancel_scope.cancel()


async def test_a_taken_port_is_refused_in_one_line_with_the_remedy(tmp_path: Path) -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        with pytest.raises(StartRefused, match=f"127.0.0.1:{port} .*stop that one or change"):
            await service.serve(pair(port), runtime=Runtime("stun", tmp_path, tmp_path))


async def test_an_address_this_host_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="does not have that address"):
        await service.serve(configuration(listen=["192.0.2.77"]), runtime=Runtime("stun", tmp_path, tmp_path))


async def test_the_service_keeps_records_of_nats_and_shows_forgets_and_hides_them(tmp_path: Path) -> None:
    runtime = Runtime("stun", tmp_path, tmp_path)
    port = free_port()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(service.serve, pair(port, nat_records_show="prefix"), runtime=runtime))
        report = await Prober(TransportAddress("127.0.0.1", port)).run()
        assert report.findings.nat is False
        with trio.fail_after(10):
            found = []
            while not found:
                found = await ask(runtime.control_path, "nat.list", {})
        assert found[0]["address"] == "127.0.0.0/24"
        shown = await ask(runtime.control_path, "nat.show", {"address": "127.0.0.1"})
        assert shown["mapping"] == "endpoint-independent"
        assert shown["fields"]["nat"]["basis"] == "reported"
        looked = await ask(runtime.control_path, "nat.lookup", {"addresses": ["127.0.0.1:5060", "192.0.2.1"]})
        assert list(looked) == ["127.0.0.1:5060"]
        exported = await ask(runtime.control_path, "metrics", {})
        assert exported["nattrav_stun_nat_records"] == [[[], 1]]
        assert await ask(runtime.control_path, "nat.forget", {"address": "127.0.0.1"}) is True
        for verb, address, code in (
            ("nat.show", "127.0.0.1", "not_found"),
            ("nat.forget", "127.0.0.1", "not_found"),
            ("nat.show", "example", "invalid"),
        ):
            with pytest.raises(VerbError) as caught:
                await ask(runtime.control_path, verb, {"address": address})
            assert caught.value.code == code
        nursery.cancel_scope.cancel()


async def test_records_that_are_switched_off_say_so(tmp_path: Path) -> None:
    runtime = Runtime("stun", tmp_path, tmp_path)
    async with trio.open_nursery() as nursery:
        config = configuration(listen=["127.0.0.1"], port=free_port(), nat_records=False, tcp=False)
        listening: list[Listening] = await nursery.start(partial(service.serve, config, runtime=runtime))
        assert len(listening) == 1
        with pytest.raises(VerbError, match="nat_records = true"):
            await ask(runtime.control_path, "nat.list", {})
        nursery.cancel_scope.cancel()
