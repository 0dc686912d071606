"""The relay as a service: engine, data threads, ng server, clock."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
from functools import partial
from ipaddress import ip_network

import trio

from nattrav.config.control import ControlAddress
from nattrav.config.schema import Configuration
from nattrav.control.ng.handler import Handler
from nattrav.control.ng.io.server import CannotListen, NgService
from nattrav.control.ng.memory import CallMemory
from nattrav.control.ng.server import Server
from nattrav.daemon.apply import apply_verb
from nattrav.daemon.garbage import no_long_pauses
from nattrav.daemon.relay_follow import RelayFollower
from nattrav.daemon.relay_keeper import FLUSH_EVERY, SessionKeeper
from nattrav.daemon.relay_kernel import KernelPath
from nattrav.daemon.relay_metrics import RelayMetrics
from nattrav.daemon.relay_setup import build_interfaces, build_kernel_path, build_plane, build_policy, claim_sockets
from nattrav.daemon.relay_verbs import RelayVerbs
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.daemon.shared_key import shared_key
from nattrav.net import clock
from relay.effects import Effect, SessionClosed, Warned
from relay.engine import Engine
from relay.io.pump import DataPlane
from relay.io.sockets import UdpOpener

TICK = 1.0
"""Seconds between looks at time-outs, load and quality."""


async def serve(
    config: Configuration,
    *,
    runtime: Runtime,
    task_status: trio.TaskStatus[list[Listening]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Relay until cancelled. StartRefused when an address, a port or the system does not allow it."""
    section = config.relay
    layout = build_interfaces(section)
    policy, budget = claim_sockets(layout, build_policy(section))
    if not budget.enough:
        runtime.log.warning(
            "fewer open files allowed than media ports",
            ports=budget.needed,
            usable=budget.allowed,
            remedy=f"LimitNOFILE={budget.needed + 1024}",
        )
    kernel, why = build_kernel_path(section, layout.interfaces, runtime.company())
    with contextlib.ExitStack() as stack:
        if kernel is not None:
            stack.callback(kernel.close)
        plane = build_plane(section, section.threads or len(os.sched_getaffinity(0)), budget, kernel)
        stack.callback(plane.stop)
        kernel_path = KernelPath(plane, kernel, section.offload, why)
        engine = Engine(
            layout.interfaces,
            plane,
            UdpOpener(plane, partial(runtime.inherited.take, socket.SOCK_DGRAM)),
            policy=policy,
            epoch=clock.wall() - clock.monotonic(),
            started=clock.monotonic(),
        )
        memory = CallMemory()
        directory = runtime.state_directory / "relay"
        keeper = SessionKeeper(engine, memory, directory, runtime.log) if section.restore else None
        service = RelayService(config, engine, plane, runtime, memory, keeper, kernel_path)
        try:
            await service.run(task_status)
        finally:
            if keeper is not None:
                keeper.finish()
                runtime.leave(plane.sockets())
                kernel_path.stay()


class RelayService:
    """Runs an engine: requests from ng, verbs from the control socket, time from the clock."""

    def __init__(
        self,
        config: Configuration,
        engine: Engine,
        plane: DataPlane,
        runtime: Runtime,
        memory: CallMemory,
        keeper: SessionKeeper | None = None,
        kernel_path: KernelPath | None = None,
    ) -> None:
        self.config = config
        self.engine = engine
        self.plane = plane
        self.runtime = runtime
        self.keeper = keeper
        self.handler = Handler(engine, mark=secrets.token_hex(6), epoch=engine.epoch, memory=memory)
        self.kernel_path = kernel_path or KernelPath(plane)
        self.metrics = RelayMetrics(engine, plane, runtime.samples, self.kernel_path)
        self.verbs = RelayVerbs(engine, plane, self.metrics, self.kernel_path)

    async def run(self, task_status: trio.TaskStatus[list[Listening]]) -> None:
        """Serve until cancelled."""
        runtime = self.runtime
        control = self.config.control
        server = Server(
            self.handler,
            allow=[ip_network(text) for text in control.allow],
            key=shared_key(control.shared_key_file),
            rate=control.max_request_rate,
        )
        service = NgService(
            server,
            [ControlAddress.parse(text) for text in control.listen],
            directory=runtime.directory,
            samples=runtime.samples,
            after=self.after_requests,
            around=self.plane.gather,
            group=runtime.socket_group,
        )
        if self.keeper is not None:
            with self.plane.gather():
                self.keeper.restore()
        async with trio.open_nursery() as nursery:
            try:
                listeners = await nursery.start(service.serve)
            except CannotListen as refused:
                raise StartRefused(str(refused)) from None
            follower = RelayFollower(self.engine, self.plane, server, self.metrics)
            verbs = {**self.verbs.table(), "config.apply": apply_verb(runtime, self.config, follower.prepare)}
            await nursery.start(runtime.serve_control, verbs)
            nursery.start_soon(self._tick)
            if self.keeper is not None:
                nursery.start_soon(self._keep, self.keeper)
            runtime.log.info("data plane", backend=self.plane.backend, why=self.plane.backend_reason)
            if self.config.relay.transmit != self.plane.transmit:
                runtime.log.warning("packets leave by their sockets", why=self.plane.transmit_reason)
            self.kernel_path.tell(runtime.log)
            no_long_pauses()
            task_status.started(
                [
                    *self._media(),
                    *(runtime.listening("ng control", one.transport, one.address) for one in listeners),
                ]
            )

    def after_requests(self) -> None:
        """Carry out what requests left behind."""
        for word in self.handler.take_unknown():
            self.runtime.log.info("ng option is not known here, ignored", word=word)
        self._carry_out(self.engine.take_effects())

    def _media(self) -> list[Listening]:
        return [
            self.runtime.listening(
                f"media {address.interface}",
                "udp",
                f"[{address.host}]:{address.pool.low}-{address.pool.high}"
                if address.family == 6
                else f"{address.host}:{address.pool.low}-{address.pool.high}",
                address.advertised,
            )
            for address in self.engine.interfaces.addresses
        ]

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK)
            now = clock.monotonic()
            self.kernel_path.say_alive()
            self._reconcile()
            self.metrics.note_load(now)
            if self.keeper is None:
                self.engine.forget_changes()
            self.metrics.note_quality(self.engine.look_at_quality(now, TICK))
            self._carry_out(self.engine.handle_timeout(now))
            if self.verbs.leave_when_empty and self.verbs.may_leave(now):
                self.runtime.log.info("drained", sessions=len(self.engine.sessions))
                # The same end as on an operator's signal, with everything that belongs to it.
                os.kill(os.getpid(), signal.SIGTERM)

    def _reconcile(self) -> None:
        """Withdraw what the kernel forwards for sessions that are gone, once every other one has been restored."""
        if self.plane.caught_up and (self.keeper is None or self.keeper.settled):
            withdrawn = self.kernel_path.disown_all()
            if withdrawn:
                self.runtime.log.info("flows of sessions that are gone taken out of the kernel", flows=withdrawn)

    async def _keep(self, keeper: SessionKeeper) -> None:
        while True:
            work = keeper.collect(clock.monotonic())
            if work is not None:
                # In a thread: a disk that hangs must not hold up calls.
                keeper.done(await trio.to_thread.run_sync(keeper.write, work), clock.monotonic())
            await trio.sleep(0.0 if keeper.behind else FLUSH_EVERY)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case SessionClosed(call_id, tags, reason, duration, condition):
                    self.handler.session_closed(call_id)
                    self.verbs.publish(
                        {
                            "event": "session_closed",
                            "call_id": call_id,
                            "tags": list(tags),
                            "reason": reason.value,
                            "duration": round(duration, 3),
                            "condition": condition,
                        }
                    )
                    self.runtime.log.info(
                        "session closed", call_id=call_id, reason=reason.value, duration=round(duration, 1)
                    )
                case Warned(call_id, text):
                    self.runtime.log.warning(text, call_id=call_id)
