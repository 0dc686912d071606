"""The test call: two phones behind two symmetric NATs register, call and listen; each step gets a verdict."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from nattrav.net import clock
from nattrav.net.address import AddressClass, TransportAddress, classify
from nattrav.selftest.io.nat import SymmetricNat
from nattrav.selftest.phone import Effect, News, Phone, Send, Tell
from nattrav.selftest.reports import Reporter
from nattrav.selftest.tones import FRAME, Heard, examine, tone_frame, verdict

CALLER_TONE, CALLEE_TONE = 440.0, 660.0
STEP_LIMIT = 15.0
RTP_HEADER = 12
REPORT_EVERY = 50
"""Frames between two RTCP reports."""


@dataclass(frozen=True)
class Step:
    """One step's verdict; `detail` shows addresses or what went wrong."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Account:
    """A user of the registrar under test; without a password the registrar must not ask for one."""

    user: str
    password: str | None = None


class _Agent:
    """A phone with its NAT, its sockets and its ears."""

    def __init__(
        self, account: Account, domain: str, server: TransportAddress, nat: SymmetricNat, inside: str, tone: float
    ) -> None:
        self.server, self.nat, self.tone = server, nat, tone
        self.signalling = TransportAddress(inside, 5060)
        self.media = TransportAddress(inside, 4000)
        self.phone = Phone(
            account.user, domain, self.signalling, self.media, lambda: secrets.token_hex(8), account.password
        )
        self.news_in, self.news = trio.open_memory_channel[Tell](100)
        self.heard: list[bytes] = []
        self._inbox_in, self._inbox = trio.open_memory_channel[bytes](1000)
        nat.attach(self.signalling, self._arrived)
        self.reports = TransportAddress(inside, 4001)
        self._reporter = Reporter(secrets.randbits(32), f"{account.user}@selftest")
        nat.attach(self.media, self._heard)
        nat.attach(self.reports, lambda data: self._reporter.receive(data, trio.current_time()))

    def _arrived(self, data: bytes) -> None:
        try:
            self._inbox_in.send_nowait(data)
        except trio.WouldBlock:
            return

    def _heard(self, data: bytes) -> None:
        if len(data) == RTP_HEADER + FRAME and data[0] >> 6 == 2:
            self.heard.append(data[RTP_HEADER:])
            self._reporter.heard(data)

    async def run(self) -> None:
        """Feed the phone with datagrams and time-outs."""
        while True:
            due = self.phone.next_timeout()
            with trio.move_on_at(due if due is not None else trio.current_time() + 3600):
                data = await self._inbox.receive()
                await self.act(self.phone.receive(data, trio.current_time()))
                continue
            await self.act(self.phone.handle_timeout(trio.current_time()))

    async def act(self, effects: list[Effect]) -> None:
        """Carry out what the phone asks."""
        for effect in effects:
            if isinstance(effect, Send):
                await self.nat.send(self.signalling, self.server, effect.data)
            else:
                await self.news_in.send(effect)

    async def wait_for(self, *wanted: News) -> Tell | None:
        """The first news of these kinds, or None after the limit."""
        with trio.move_on_after(STEP_LIMIT):
            async for tell in self.news:
                if tell.news in wanted:
                    return tell
        return None

    async def talk(self, destination: TransportAddress, frames: int) -> None:
        """Send the tone for that many 20 ms frames, and a report once a second to the port beside it."""
        start, beside = trio.current_time(), TransportAddress(destination.host, destination.port + 1)
        for number in range(frames):
            header = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * FRAME, self._reporter.ssrc)
            await self.nat.send(self.media, destination, header + tone_frame(self.tone, number))
            self._reporter.sent(FRAME)
            if number % REPORT_EVERY == REPORT_EVERY // 2:
                await self.nat.send(self.reports, beside, self._reporter.report(clock.wall(), trio.current_time()))
            await trio.sleep_until(start + (number + 1) * 0.02)


@dataclass
class Report:
    """All steps so far and the verdict on the sound."""

    steps: list[Step] = field(default_factory=list)
    verdict: str = "none"

    @property
    def ok(self) -> bool:
        """Every step passed."""
        return bool(self.steps) and all(step.ok for step in self.steps)


async def selftest(
    server: TransportAddress,
    domain: str,
    caller: Account,
    callee: Account,
    *,
    seconds: float = 3.0,
    outside: str | None = None,
    tell: Callable[[Step], None] = lambda step: None,
) -> Report:
    """Place the call through the SIP listener `server`; stops at the first step that fails.

    `outside` is the local address the emulated NATs send from (default: the server's, or the one that reaches it).
    """
    report = Report()

    def done(name: str, ok: bool, detail: str) -> bool:
        step = Step(name, ok, detail)
        report.steps.append(step)
        tell(step)
        return ok

    async with trio.open_nursery() as nursery:
        host = outside or await _source_towards(server)
        agents = [
            _Agent(account, domain, server, SymmetricNat(host, nursery), inside, tone)
            for account, inside, tone in ((caller, "10.11.0.2", CALLER_TONE), (callee, "10.22.0.2", CALLEE_TONE))
        ]
        for agent in agents:
            nursery.start_soon(agent.run)
        try:
            await _call(agents[0], agents[1], seconds, report, done)
        finally:
            with trio.move_on_after(2, shield=True):
                for agent in agents:
                    if agent.phone.registered:
                        await agent.act(agent.phone.register(0, trio.current_time()))
                        await agent.wait_for(News.REGISTERED, News.REGISTRATION_FAILED)
            for agent in agents:
                agent.nat.close()
            nursery.cancel_scope.cancel()
    return report


async def _call(
    caller: _Agent, callee: _Agent, seconds: float, report: Report, done: Callable[[str, bool, str], bool]
) -> None:
    for agent, name in ((callee, "callee"), (caller, "caller")):
        await agent.act(agent.phone.register(120, trio.current_time()))
        news = await agent.wait_for(News.REGISTERED, News.REGISTRATION_FAILED)
        registered = news is not None and news.news is News.REGISTERED
        mapped = agent.nat.mapped(agent.signalling, agent.server)
        detail = f"{agent.signalling} behind {mapped}" if registered else _why(news)
        if not registered and agent.phone.password is None and any(code in detail for code in ("401", "403", "407")):
            detail += "; this registrar wants an account: name two as USER:PASSWORD"
        if not done(f"the {name} registers through a symmetric NAT", registered, detail):
            return
        seen = agent.phone.mapped
        if not done(
            f"the {name}'s response shows its mapped address", seen == mapped, f"received;rport = {seen or 'absent'}"
        ):
            return
    await caller.act(caller.phone.invite(callee.phone.user, trio.current_time()))
    incoming, answered = await _invited(caller, callee)
    if not done("the INVITE reaches the callee", incoming is not None, _why(incoming or answered)):
        return
    answered = answered or await caller.wait_for(News.ANSWERED, News.CALL_FAILED)
    if not done("the 200 reaches the caller", answered is not None and answered.news is News.ANSWERED, _why(answered)):
        return
    assert incoming is not None
    assert answered is not None
    to_callee, to_caller = answered.media, incoming.media
    inside = {caller.media.host, callee.media.host}
    for name, place, sdp in (("callee", to_caller, incoming.sdp), ("caller", to_callee, answered.sdp)):
        clean = place is not None and place.host not in inside and not _shows_inside(sdp, inside)
        if not done(f"the {name} is told the relay's address", clean, f"c=/m= {place}"):
            return
    confirmed = await callee.wait_for(News.CONFIRMED, News.ENDED)
    if not done("the ACK reaches the callee", confirmed is not None and confirmed.news is News.CONFIRMED, ""):
        return
    assert to_callee is not None
    assert to_caller is not None
    frames = round(seconds * 50)
    async with trio.open_nursery() as talking:
        talking.start_soon(caller.talk, to_callee, frames)
        talking.start_soon(callee.talk, to_caller, frames)
    await trio.sleep(0.2)
    by_caller = examine(caller.heard, far=CALLEE_TONE, own=CALLER_TONE)
    by_callee = examine(callee.heard, far=CALLER_TONE, own=CALLEE_TONE)
    report.verdict = verdict(by_caller, by_callee, expected=frames)
    done("the caller hears the callee", report.verdict in ("both", "callee_deaf"), _audible(by_caller, frames))
    done("the callee hears the caller", report.verdict in ("both", "caller_deaf"), _audible(by_callee, frames))
    await caller.act(caller.phone.bye(trio.current_time()))
    over = await callee.wait_for(News.ENDED)
    done("BYE ends the call on both sides", over is not None, "" if over else _why(None))


async def _invited(caller: _Agent, callee: _Agent) -> tuple[Tell | None, Tell | None]:
    """Wait for the call at the callee, unless the caller is told first that it failed; what both have heard."""
    incoming: Tell | None = None
    answered: Tell | None = None
    async with trio.open_nursery() as nursery:

        async def at_caller() -> None:
            nonlocal answered
            answered = await caller.wait_for(News.ANSWERED, News.CALL_FAILED)
            if answered is not None and answered.news is News.CALL_FAILED:
                nursery.cancel_scope.cancel()

        nursery.start_soon(at_caller)
        incoming = await callee.wait_for(News.INCOMING)
        nursery.cancel_scope.cancel()
    return incoming, answered


def _shows_inside(sdp: str, inside: set[str]) -> bool:
    return any(host in line for line in sdp.splitlines() if line[:2] in ("c=", "a=") for host in inside)


def _audible(heard: Heard, sent: int) -> str:
    return f"{heard.frames} of {sent} frames, {heard.far:.0%} with the far tone"


def _why(news: Tell | None) -> str:
    return f"nothing came within {STEP_LIMIT:g} s" if news is None else news.detail


async def _source_towards(server: TransportAddress) -> str:
    if classify(server.host) is AddressClass.LOOPBACK:
        return "127.0.0.1"
    with trio.socket.socket(server.family, trio.socket.SOCK_DGRAM) as probe:
        await probe.connect(server)
        return str(probe.getsockname()[0])
