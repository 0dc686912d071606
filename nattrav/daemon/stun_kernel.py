"""The STUN service's kernel path: whether it is there, why not, what it answers."""

from __future__ import annotations

from typing import Any

from nattrav.config.stun import StunSection
from nattrav.daemon.runtime import Runtime, StartRefused
from nattrav.metrics.samples import Samples
from nattrav.net.bpf.programs import Mode
from stun.io.server import UdpServer
from stun.offload.io.loader import OffloadRefused, leave_xdp


class StunKernelPath:
    """Beside a server: its XDP program, when there is one."""

    def __init__(self, udp: UdpServer, wanted: str = "off", why: str = "") -> None:
        """`why` it is not there."""
        self._udp = udp
        self._wanted = wanted
        self._why = why

    @property
    def _answers(self) -> bool:
        return self._udp.kernel is not None and self._udp.kernel.attached

    def status(self) -> dict[str, Any]:
        """What `nattrav status` shows. CPU time stands still unless BPF statistics are on."""
        kernel = self._udp.kernel
        state = "off" if self._wanted == "off" else "xdp" if self._answers else "unavailable"
        why = self._why
        if kernel is not None:
            why = kernel.how if self._answers else "the configuration now needs user space"
        return {
            "state": state,
            "why": why,
            "answered": 0 if kernel is None else int(kernel.counters().responses.sum()),
            "cpu_seconds": 0.0 if kernel is None else kernel.run_time().seconds,
        }

    def collect(self, samples: Samples) -> None:
        """Bring the metrics of this path up to date."""
        told = self.status()
        samples.set("nattrav_offload_refused", int(told["state"] == "unavailable"), "stun")
        samples.set("nattrav_stun_offload_active", float(self._answers))
        samples.set("nattrav_stun_offload_responses_total", told["answered"])


def offload(section: StunSection, udp: UdpServer, runtime: Runtime) -> StunKernelPath:
    """Have the kernel answer too, where that is wanted. StartRefused when it must and cannot."""
    company = runtime.company()
    if section.offload == "off":
        leave_xdp(company)
        return StunKernelPath(udp, "off", '[stun] offload = "off"')
    mode = None if section.offload_mode == "auto" else Mode(section.offload_mode)
    try:
        udp.offload(interfaces=section.offload_interfaces, mode=mode, company=company)
    except OffloadRefused as refused:
        if section.offload == "xdp":
            raise StartRefused(f'[stun] offload = "xdp" is not possible: {refused}; or write "auto"') from None
        runtime.log.warning("kernel path is not possible, requests are answered in user space", why=str(refused))
        return StunKernelPath(udp, section.offload, str(refused))
    return StunKernelPath(udp, section.offload)
