"""Drives a headless Chromium over its DevTools protocol: open a page, evaluate expressions, take pictures."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Message, Request

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1440,1080",
)


class Tab:
    """One page of the browser."""

    def __init__(self, stream: trio.abc.Stream, host: str, target: str) -> None:
        self._stream = stream
        self._socket = WSConnection(ConnectionType.CLIENT)
        self._request = Request(host=host, target=target)
        self._last = 0
        self._text = ""
        self.complaints: list[str] = []

    async def connect(self) -> None:
        await self._stream.send_all(self._socket.send(self._request))
        while True:
            self._socket.receive_data(await self._stream.receive_some(65536))
            for event in self._socket.events():
                if isinstance(event, AcceptConnection):
                    return

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its result; violations and errors of the page are kept aside."""
        self._last += 1
        command = json.dumps({"id": self._last, "method": method, "params": parameters})
        await self._stream.send_all(self._socket.send(Message(data=command)))
        while True:
            for message in self._messages():
                if message.get("id") == self._last:
                    assert "error" not in message, message["error"]
                    result: dict[str, Any] = message["result"]
                    return result
                if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                    self.complaints.append(json.dumps(message["params"]))
            data = await self._stream.receive_some(1 << 20)
            assert data, "the browser hung up"
            self._socket.receive_data(data)

    def _messages(self) -> list[dict[str, Any]]:
        found = []
        for event in self._socket.events():
            if isinstance(event, Message):
                self._text += str(event.data)
                if event.message_finished:
                    found.append(json.loads(self._text))
                    self._text = ""
        return found

    async def value(self, expression: str) -> Any:
        """Evaluate an expression in the page."""
        answer = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def wait(self, expression: str, *, within: float = 15) -> None:
        """Wait until an expression is true."""
        for _ in range(int(within / 0.1)):
            if await self.value(expression):
                return
            await trio.sleep(0.1)
        raise AssertionError(f"{expression} did not become true: {await self.value('document.body.innerText')}")

    async def press(self, key: str) -> str:
        """Press one key, and tell where the keyboard's focus is then."""
        for kind in ("rawKeyDown", "keyUp"):
            code = {"Tab": 9, "Enter": 13}[key]
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        focus = "document.activeElement.id || document.activeElement.getAttribute('aria-labelledby') || "
        return str(await self.value(focus + "document.activeElement.className || document.activeElement.tagName"))

    async def picture(self, path: Path) -> None:
        """Save what the page looks like."""
        answer = await self.send("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def browse(url: str, profile: Path, *, scheme: str = "light") -> AsyncIterator[Tab]:
    """Open a page in a browser of its own; skips the test where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium: apt install chromium")
    process = subprocess.Popen(  # noqa: ASYNC220
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        port_file = profile / "DevToolsActivePort"
        with trio.fail_after(30):
            while not (port_file.exists() and port_file.read_text().count("\n")):  # noqa: ASYNC110
                await trio.sleep(0.05)
        port = int(port_file.read_text().split()[0])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /json/list HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = b""
            while b"]" not in answer:
                answer += await stream.receive_some(65536)
        target = next(one for one in json.loads(answer.partition(b"\r\n\r\n")[2]) if one["type"] == "page")
        path = target["webSocketDebuggerUrl"].partition("/devtools")[2]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            tab = Tab(stream, f"127.0.0.1:{port}", f"/devtools{path}")
            await tab.connect()
            for domain in ("Page", "Runtime", "Log"):
                await tab.send(f"{domain}.enable")
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            await tab.send("Emulation.setEmulatedMedia", features=features)
            await tab.send("Page.navigate", url=url)
            yield tab
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(process.wait)
