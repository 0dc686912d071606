"""TLS and secure WebSocket at the running proxy, and what it says when certificates are missing or wrong."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request, TextMessage

from nattrav.config.schema import Configuration
from nattrav.config.sip import SipCertificate, SipTls
from nattrav.daemon.proxy import serve
from nattrav.daemon.proxy_tls import note_certificates, tls_contexts
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.net.address import TransportAddress
from nattrav.proxy.listener import Listener


def make_certificate(folder: Path, name: str) -> SipTls:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt install openssl")
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    return SipTls(certificate=str(chain), key=str(key))


@asynccontextmanager
async def running(tmp_path: Path, tls: SipTls) -> AsyncGenerator[dict[str, TransportAddress], None]:
    listen = [f"{transport}:127.0.0.1:0" for transport in ("udp", "tls", "wss")]
    registrar = {"authentication": "none"}
    config = Configuration.model_validate(
        {"sip": {"listen": listen, "tls": tls.model_dump(exclude_none=True), "registrar": registrar}}
    )
    async with trio.open_nursery() as nursery:
        listening: list[Listening] = await nursery.start(
            lambda task_status: serve(
                config, runtime=Runtime("proxy", tmp_path, tmp_path / "state"), task_status=task_status
            )
        )
        yield {one.transport: TransportAddress.parse(one.address) for one in listening}
        nursery.cancel_scope.cancel()


def register(transport: str, at: TransportAddress) -> str:
    return (
        f"REGISTER sip:{at} SIP/2.0\r\nVia: SIP/2.0/{transport} 10.0.0.5:5061;branch=z9hG4bK{transport};rport\r\n"
        f"From: <sip:alice@{at}>;tag=1\r\nTo: <sip:alice@{at}>\r\nCall-ID: {transport}\r\n"
        f"CSeq: 1 REGISTER\r\nContact: <sip:alice@10.0.0.5;transport={transport.lower()}>;expires=300\r\n"
        "Content-Length: 0\r\n\r\n"
    )


async def secure(at: TransportAddress, tls: SipTls) -> trio.SSLStream[trio.SocketStream]:
    context = ssl.create_default_context(cafile=tls.certificate)
    stream = await trio.open_tcp_stream(*at)
    return trio.SSLStream(stream, context, server_hostname="sip.example", https_compatible=True)


async def test_phones_register_over_tls_and_secure_websocket(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    tls = make_certificate(tmp_path, "sip.example")
    async with running(tmp_path, tls) as at:
        with trio.fail_after(10):
            phone = await secure(at["tls"], tls)
            await phone.send_all(register("TLS", at["tls"]).encode())
            answer = (await phone.receive_some()).decode()
            await phone.aclose()
            assert answer.startswith("SIP/2.0 200 OK\r\n")
            assert "<sip:alice@10.0.0.5;transport=tls>;expires=" in answer
            browser = await secure(at["wss"], tls)
            socket = WSConnection(ConnectionType.CLIENT)
            await browser.send_all(socket.send(Request(host="sip.example", target="/", subprotocols=["sip"])))
            socket.receive_data(await browser.receive_some())
            list(socket.events())
            await browser.send_all(socket.send(TextMessage(register("WSS", at["wss"]))))
            socket.receive_data(await browser.receive_some())
            (event,) = socket.events()
            await browser.aclose()
        assert isinstance(event, TextMessage)
        assert event.data.startswith("SIP/2.0 200 OK\r\n")


async def test_each_server_name_gets_its_certificate_and_an_unknown_one_the_first(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    made = {}
    for name in ("sip.example", "other.example", "*.wild.example"):
        folder = tmp_path / name.replace("*", "any")
        folder.mkdir()
        made[name] = make_certificate(folder, name)
    further = [
        SipCertificate(names=[name], certificate=made[name].certificate or "", key=made[name].key)
        for name in ("other.example", "*.wild.example")
    ]
    tls = made["sip.example"].model_copy(update={"certificates": further})
    asked = {"sip.example": "sip.example", "Other.Example": "other.example", "a.wild.example": "*.wild.example"}
    async with running(tmp_path, tls) as at:
        with trio.fail_after(10):
            for name, expected in asked.items():
                context = ssl.create_default_context(cafile=made[expected].certificate)
                stream = await trio.open_tcp_stream(*at["tls"])
                secured = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
                await secured.do_handshake()
                await secured.aclose()
            context = ssl.create_default_context(cafile=made["sip.example"].certificate)
            context.check_hostname = False
            stream = await trio.open_tcp_stream(*at["tls"])
            secured = trio.SSLStream(stream, context, server_hostname="nobody.example", https_compatible=True)
            await secured.do_handshake()
            await secured.aclose()


def test_certificates_by_name_alone_are_enough(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, "sip.example")
    only = SipCertificate(names=["sip.example"], certificate=made.certificate or "", key=made.key)
    tls_contexts(SipTls(certificates=[only]), {"tls"}).server_side()


def test_a_tls_listener_without_a_certificate_is_refused_with_the_remedy() -> None:
    with pytest.raises(StartRefused, match=r"set \[sip.tls\] certificate and key"):
        tls_contexts(SipTls(), {"udp", "tls"})
    assert tls_contexts(SipTls(), {"udp", "tcp"}).certificates == ()


def test_certificates_that_cannot_be_used_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="No such file"):
        tls_contexts(SipTls(certificate=str(tmp_path / "none.pem")), {"tls"})
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(StartRefused, match="PEM"):
        tls_contexts(SipTls(certificate=str(broken)), {"tls"})


def test_a_changed_certificate_is_noticed_and_a_broken_one_leaves_the_old_in_use(tmp_path: Path) -> None:
    tls = make_certificate(tmp_path, "sip.example")
    contexts = tls_contexts(tls, {"tls"})
    assert not contexts.changed()
    chain = Path(tls.certificate or "")
    os.utime(chain, (1, 1))
    assert contexts.changed()
    contexts.reload()
    assert not contexts.changed()
    chain.write_text("broken")
    assert contexts.changed()
    with pytest.raises(ssl.SSLError):
        contexts.reload()
    contexts.server_side()
    chain.unlink()
    assert not contexts.changed()


def test_other_certificate_files_are_used_and_their_end_is_told(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    contexts = tls_contexts(make_certificate(tmp_path, "old.example"), {"tls"})
    newer = tls_contexts(make_certificate(tmp_path / "new", "new.example"), {"tls"})
    contexts.replace(newer)
    assert [str(one.chain.parent) for one in contexts.certificates] == [str(tmp_path / "new")]
    assert not contexts.changed()
    contexts.server_side()
    runtime = Runtime("proxy", tmp_path, tmp_path)
    listener = Listener(1, "tls", TransportAddress("192.0.2.1", 5061), "192.0.2.1", 5061)
    plain = Listener(2, "udp", TransportAddress("192.0.2.1", 5060), "192.0.2.1", 5060)
    note_certificates(contexts, [listener, plain], runtime)
    ((labels, end),) = runtime.samples.export()["nattrav_tls_certificate_expiry_timestamp_seconds"]
    assert list(labels) == ["tls:192.0.2.1:5061"]
    assert 86_400 < end - time.time() < 3 * 86_400
