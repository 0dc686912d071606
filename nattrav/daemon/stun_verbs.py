"""What the STUN service answers on its control socket: its metrics and its figures."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from nattrav.daemon.nat_records import RecordKeeper
from nattrav.daemon.runtime import Runtime
from nattrav.daemon.stun_kernel import StunKernelPath
from nattrav.net.clock import monotonic
from stun.counters import CHANGES, CODES, FAMILIES, TRANSPORTS, Counters
from stun.io.server import UdpServer
from stun.io.streams import StreamServer


class StunVerbs:
    """The verbs of the STUN service."""

    def __init__(
        self,
        runtime: Runtime,
        udp: UdpServer,
        streams: Sequence[StreamServer],
        keeper: RecordKeeper,
        kernel_path: StunKernelPath | None = None,
    ) -> None:
        self._runtime = runtime
        self._udp = udp
        self._streams = streams
        self._keeper = keeper
        self._kernel_path = kernel_path or StunKernelPath(udp)

    def _counters(self) -> Counters:
        return Counters.total([self._udp.counters(), *(server.counters for server in self._streams)])

    def verbs(self) -> dict[str, Any]:
        """What the control socket answers."""
        return {"metrics": self.metrics, "status": self.status, "stun.stats": self.stats}

    async def status(self, args: dict[str, Any]) -> dict[str, Any]:
        """What `nattrav status` shows beside what every service says."""
        return {"offload": self._kernel_path.status()}

    async def metrics(self, args: dict[str, Any]) -> Any:
        """Copy the counters into the samples and give them."""
        copy_counters(self._counters(), self._runtime)
        samples, now = self._runtime.samples, monotonic()
        samples.set("nattrav_stun_ratelimit_buckets", self._udp.admission.size())
        samples.set("nattrav_stun_ratelimit_buckets_used", self._udp.admission.in_use(now))
        samples.set("nattrav_stun_nat_records", len(self._keeper.records))
        samples.clear("nattrav_stun_nat_clients")
        for (mapping, filtering), clients in self._keeper.records.shares().items():
            samples.set("nattrav_stun_nat_clients", clients, mapping, filtering)
        self._kernel_path.collect(samples)
        for thread in self._udp.data_threads:
            samples.set("nattrav_worker_cpu_seconds_total", thread.cpu_seconds(), "stun", str(thread.number))
            alive = thread.failure is None
            samples.set("nattrav_worker_up", float(alive), "stun", str(thread.number))
        return samples.export()

    async def stats(self, args: dict[str, Any]) -> dict[str, Any]:
        """Give the counters in words."""
        counters = self._counters()
        requests, responses = int(counters.requests.sum()), int(counters.responses.sum())
        sent, received = int(counters.response_bytes[0]), int(counters.request_bytes[0])
        return {
            "requests": requests,
            "responses": responses,
            "errors": responses - int(counters.responses[:, 0].sum()),
            "dropped": {word: count for word, count in counters.drops().items() if count},
            "change_requests": dict(zip(CHANGES, counters.changes.tolist(), strict=True)),
            "amplification": round(sent / received, 3) if received else 0.0,
            "receive_overflows": self._udp.overflows(),
            "send_errors": {errno.errorcode.get(c, str(c)): n for c, n in self._udp.send_errors().items()},
            "connections": sum(server.connections for server in self._streams),
            "connections_refused": sum(server.refused for server in self._streams),
            "outside_fast_path": int(counters.slow[0]),
            "offload": self._kernel_path.status(),
            "rate_limit_buckets": self._udp.admission.size(),
            "rate_limit_buckets_used": self._udp.admission.in_use(monotonic()),
            "threads": [{"number": t.number, "cpu_seconds": t.cpu_seconds()} for t in self._udp.data_threads],
        }


def copy_counters(counters: Counters, runtime: Runtime) -> None:
    """Put the data threads' counts under the metrics' names."""
    samples = runtime.samples
    for row, transport in enumerate(TRANSPORTS):
        for column, family in enumerate(FAMILIES):
            count = int(counters.requests[row, column])
            samples.set("nattrav_stun_requests_total", count, transport.value, str(family), "binding")
        for column, code in enumerate(CODES):
            count = int(counters.responses[row, column])
            if count or code == 0:
                kind = "error" if code else "success"
                samples.set("nattrav_stun_responses_total", count, transport.value, kind, str(code))
    for reason, dropped in counters.drops().items():
        samples.set("nattrav_stun_dropped_total", dropped, reason)
    for change, number in zip(CHANGES, counters.changes.tolist(), strict=True):
        samples.set("nattrav_stun_change_requests_total", number, change)
    samples.set("nattrav_stun_request_bytes_total", int(counters.request_bytes[0]))
    samples.set("nattrav_stun_response_bytes_total", int(counters.response_bytes[0]))
