"""The kernel path as people and metrics see it: whether it is there, why not, what it does."""

from __future__ import annotations

from typing import Any

from nattrav.metrics.samples import Samples
from relay.io.pump import DataPlane
from relay.offload.io.loader import XdpFlows
from relay.offload.layout import REASONS

XDP = "xdp"


class KernelPath:
    """Beside a data plane: its XDP program, when there is one. `why` says how it runs or why it does not."""

    def __init__(self, plane: DataPlane, kernel: XdpFlows | None = None, wanted: str = "off", why: str = "") -> None:
        self._plane = plane
        self._kernel = kernel
        self._wanted = wanted
        self._why = why

    def tell(self, log: Any) -> None:
        """Say once whether it is used."""
        if self._kernel is not None:
            log.info("kernel path", offload=XDP, attached=self._why)
        elif self._wanted != "off":
            log.warning("kernel path is not possible, media stays in user space", why=self._why)

    def say_alive(self) -> None:
        """Allow the kernel to go on for a while; to be said every second."""
        if self._kernel is not None:
            self._kernel.say_alive()

    def disown_all(self) -> int:
        """Withdraw what the kernel still forwards for the process before this one; how many flows."""
        return 0 if self._kernel is None or not self._kernel.inherited else self._kernel.disown_all()

    def stay(self) -> None:
        """Have the kernel go on when this process ends, if a next one may take over."""
        if self._kernel is not None:
            self._kernel.stay()

    def status(self) -> dict[str, Any]:
        """What `nattrav status` shows."""
        flows, sums = self._plane.offloaded()
        return {
            "state": "off" if self._wanted == "off" else "unavailable" if self._kernel is None else XDP,
            "why": self._why,
            "flows": flows,
            "packets": sums.packets,
            "left": {} if self._kernel is None else {why: count for why, count in self._kernel.left().items() if count},
        }

    def collect(self, samples: Samples) -> tuple[int, int]:
        """Bring the metrics of this path up to date; give its packets and octets so far."""
        flows, sums = self._plane.offloaded()
        samples.set("nattrav_relay_datapath_available", int(self._kernel is not None), XDP)
        samples.set("nattrav_offload_refused", int(self._wanted != "off" and self._kernel is None), "relay")
        samples.set("nattrav_relay_offloaded_flows", flows)
        for event, count in (
            ("offloaded", sums.offloaded),
            ("withdrawn", sums.withdrawn),
            ("full", sums.full),
            ("adopted", sums.adopted),
        ):
            samples.set("nattrav_relay_offload_events_total", count, XDP, event)
        left = dict.fromkeys(REASONS, 0) if self._kernel is None else self._kernel.left()
        for reason, count in left.items():
            samples.set("nattrav_relay_offload_left_packets_total", count, reason)
        return sums.packets, sums.bytes
