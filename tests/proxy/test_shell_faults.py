"""A fault of ours on one message costs that message; the process, its calls and the rest of the batch go on."""

from __future__ import annotations

from typing import Any

from nattrav.net.address import TransportAddress
from nattrav.proxy.effects import Drop, DropReason, Effect, Send
from nattrav.proxy.io.shell import Shell
from nattrav.sip.transport.flow import Flow, Outgoing

FLOW = Flow("udp", 1, TransportAddress("127.0.0.1", 5060), TransportAddress("127.0.0.1", 5070))


class Core:
    """Breaks on the second message."""

    def __init__(self) -> None:
        self.left: list[Effect] = []

    def receive(self, flow: Flow, data: bytes, now: float) -> list[Effect]:
        if data == b"two":
            self.left.append(Send(flow, b"half done"))
            raise ZeroDivisionError("a fault")
        return [Send(flow, b"answer to " + data)]

    def take_effects(self) -> list[Effect]:
        left, self.left = self.left, []
        return left


class Wire:
    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []

    def send(self, batch: list[Outgoing]) -> None:
        self.sent.append([one.data for one in batch])


def test_the_batch_goes_on_and_leaves_with_one_call() -> None:
    logged: list[tuple[str, str, dict[str, Any]]] = []
    nothing: Any = lambda *args, **kwargs: None  # noqa: E731
    shell = Shell(
        Core(),  # type: ignore[arg-type]
        resolve=nothing,
        observe=nothing,
        log=lambda level, event, facts: logged.append((level, event, facts)),
        record=nothing,
    )
    wire: Any = Wire()
    shell.transports = wire
    shell.deliver([(FLOW, b"one"), (FLOW, b"two"), (FLOW, b"three")])
    assert wire.sent == [[b"answer to one", b"half done", b"answer to three"]]
    assert shell.drops == {("udp", "fault"): 1}
    assert [(level, event) for level, event, _ in logged] == [("error", "fault_on_message")]
    assert isinstance(logged[0][2]["exc_info"], ZeroDivisionError)
    assert Drop(DropReason.FAULT, FLOW).reason.value == "fault"
