"""The ng client's sockets: one per relay, so that a relay's answer comes back to where it was asked from."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import trio

from nattrav.config.control import ControlAddress
from nattrav.control.ng.client import Answered, Effect, RelayChanged, RelayChoice, RelayPool, SendControl
from nattrav.control.ng.codec_bencode import Encodable
from nattrav.control.ng.io.unix import auto_path, open_client
from nattrav.control.ng.seal import Way, seal, unseal
from nattrav.net.address import TransportAddress
from nattrav.net.clock import wall
from nattrav.net.options import open_udp

DATAGRAM = 65536
BURST = 64

OnAnswer = Callable[[Answered], None]
OnChange = Callable[[RelayChanged], None]


class NgClient:
    """A pool of relays on its sockets.

    `on_answer` and `on_change` are called from `run`, or from `ask` when a request is settled at once; they must
    not block. `key` seals what goes to relays over UDP.
    """

    def __init__(
        self,
        relays: Sequence[tuple[ControlAddress, int]],
        *,
        directory: Path,
        prefix: str,
        on_answer: OnAnswer,
        on_change: OnChange | None = None,
        key: bytes | None = None,
        first_retry: float = 0.25,
    ) -> None:
        self.send_errors: Counter[int] = Counter()
        self.pool = RelayPool(
            [RelayChoice(str(address), weight) for address, weight in relays],
            prefix=prefix,
            intervals=(first_retry, 2 * first_retry, 4 * first_retry),
        )
        self._on_answer = on_answer
        self._on_change = on_change
        self._key = key
        self._links: dict[str, _Link] = {}
        self._wake = trio.Event()
        self._opening = [(str(address), address, directory) for address, _ in relays]

    def open(self) -> None:
        """Open the sockets; after this `ask` may be called. OSError when the system has none left."""
        for name, address, directory in self._opening:
            if name not in self._links:
                self._links[name] = _Link(name, address, directory)

    def close(self) -> None:
        """Close the sockets."""
        for link in self._links.values():
            link.sock.close()
        self._links.clear()

    def ask(
        self,
        command: str,
        arguments: Mapping[str, Encodable],
        *,
        call_id: str | None = None,
        relay: str | None = None,
    ) -> int:
        """Send a request; its number comes back in `Answered`."""
        number, effects = self.pool.ask(command, arguments, call_id=call_id, relay=relay, now=trio.current_time())
        self._execute(effects)
        self._wake.set()
        return number

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive, retransmit and ping until cancelled."""
        self.open()
        try:
            async with trio.open_nursery() as nursery:
                for link in self._links.values():
                    nursery.start_soon(self._receive, link)
                nursery.start_soon(self._keep_time)
                task_status.started()
        finally:
            self.close()

    async def _receive(self, link: _Link) -> None:
        while True:
            await trio.lowlevel.wait_readable(link.sock)
            for _ in range(BURST):
                try:
                    datagram = link.sock.recv(DATAGRAM)
                except (BlockingIOError, InterruptedError):
                    break
                except OSError as error:
                    # ICMP errors of an absent relay surface here; its silence is what counts.
                    self.send_errors[error.errno or 0] += 1
                    break
                if self._key is not None and link.sealed:
                    opened = unseal(self._key, Way.REPLY, datagram, wall())
                    if opened is None:
                        continue
                    datagram = opened
                self._execute(self.pool.receive(link.name, datagram, trio.current_time()))

    async def _keep_time(self) -> None:
        while True:
            self._execute(self.pool.handle_timeout(trio.current_time()))
            self._wake = trio.Event()
            with trio.move_on_after(max(0.0, self.pool.next_timeout() - trio.current_time())):
                await self._wake.wait()

    def _execute(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendControl(relay, payload):
                    self._send(self._links[relay], payload)
                case Answered():
                    self._on_answer(effect)
                case RelayChanged():
                    if self._on_change is not None:
                        self._on_change(effect)
                case _:
                    assert_never(effect)

    def _send(self, link: _Link, payload: bytes) -> None:
        if self._key is not None and link.sealed:
            payload = seal(self._key, Way.REQUEST, payload, wall())
        try:
            link.send(payload)
        except OSError as error:
            # Not there, or its queue is full: the retransmission timer speaks for both.
            self.send_errors[error.errno or 0] += 1


class _Link:
    """The socket towards one relay."""

    def __init__(self, name: str, address: ControlAddress, directory: Path) -> None:
        self.name = name
        self.sealed = address.transport == "udp"
        self._path: str | None = None
        if address.address is not None:
            any_host = "::" if address.address.family == socket.AF_INET6 else "0.0.0.0"
            self.sock = open_udp(TransportAddress(any_host, 0))
            self.sock.connect(address.address)
        else:
            self.sock = open_client()
            self._path = str(auto_path(directory) if address.path is None else Path(address.path))

    def send(self, payload: bytes) -> None:
        # A Unix socket is named anew each time: the relay may have been restarted at the same path.
        if self._path is None:
            self.sock.send(payload)
        else:
            self.sock.sendto(payload, self._path)


async def ask_once(
    address: ControlAddress,
    command: str,
    arguments: Mapping[str, Encodable],
    *,
    directory: Path,
    prefix: str,
    key: bytes | None = None,
) -> dict[str, Any] | None:
    """Ask one relay one thing; None when it does not answer."""
    answers: list[Answered] = []
    done = trio.Event()

    def settle(answer: Answered) -> None:
        answers.append(answer)
        done.set()

    client = NgClient([(address, 1)], directory=directory, prefix=prefix, on_answer=settle, key=key)
    client.open()
    async with trio.open_nursery() as nursery:
        client.ask(command, arguments)
        await nursery.start(client.run)
        await done.wait()
        nursery.cancel_scope.cancel()
    return answers[0].reply
