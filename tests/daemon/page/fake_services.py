"""Services with one call, one phone and hostile words, for tests of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nattrav.control.socket.messages import VerbError
from nattrav.metrics.samples import Samples

HOSTILE = '"><script>alert(1)</script>\x1b[2J'


class FakeServices:
    """Answers as a supervisor would."""

    def __init__(self) -> None:
        self.asked = 0
        self.packets = 0
        self.condition: str | None = None
        self.calls = 1

    async def status(self) -> dict[str, Any]:
        services = [{"role": "relay", "up": True, "ready": True, "uptime": 61.2, "restarts": 0, "pid": 7}]
        return {
            "node": "edge-1",
            "version": "0.1.0",
            "ready": True,
            "not_ready": [],
            "uptime": 61.5,
            "services": services,
        }

    async def ask(self, role: str, verb: str, args: dict[str, Any]) -> Any:
        if args.get("call_id") == "gone":
            raise VerbError("not_found", "no session gone")
        return [role, verb, args]

    def not_ready(self) -> list[str]:
        return []

    async def samples(self) -> Samples:
        self.asked += 1
        self.packets += 1000
        samples = Samples()
        samples.set("nattrav_sip_calls", self.calls, "confirmed")
        samples.set("nattrav_relay_packets_total", self.packets, "rx", "userspace")
        samples.set("nattrav_relay_ports", 10_000, "default")
        samples.set("nattrav_relay_ports_used", 4, "default")
        samples.set("nattrav_relay_sessions_one_way", 1 if self.condition else 0)
        for value in (4.4,) * 19 + (3.1,) * 3:
            samples.observe("nattrav_relay_stream_mos", value)
        return samples

    async def gather(
        self, verb: str, args: dict[str, Any] | None = None, *, roles: Sequence[str] | None = None
    ) -> dict[str, Any]:
        call = {
            "call_id": "call-1",
            "from": "+498912345678",
            "to": HOSTILE,
            "state": "confirmed",
            "age": 65.0,
            "duration": 61.0,
            "caller": "198.51.100.9:40001",
            "callee": "192.0.2.10:5060",
            "upstream": "gateway",
        }
        binding = {
            "aor": "498912345678@voice.example.com",
            "nat": "port-restricted",
            "source": "198.51.100.9:40001",
            "transport": "udp",
            "user_agent": HOSTILE,
            "expires": 55.0,
            "registered": 2.0,
        }
        pool = {"interface": "default", "address": "192.0.2.1", "low": 30000, "high": 39999}
        answers: dict[str, Any] = {
            "calls.list": {"proxy": [call | {"call_id": f"call-{n}"} for n in range(1, min(self.calls, 200) + 1)]},
            "sessions.list": {"relay": [{"call_id": "call-1", "packets": 6200, "condition": self.condition}]},
            "registrations.list": {"proxy": [binding]},
            "ports.pools": {"relay": [pool | {"total": 10_000, "used": 4, "quarantined": 0}]},
            "upstreams.list": {"proxy": [{"name": "gateway", "target": "sip:192.0.2.10", "up": True}]},
        }
        return answers[verb]  # type: ignore[no-any-return]
