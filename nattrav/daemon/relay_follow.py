"""A running relay follows a new configuration: limits and time-outs at once, ports and rules with the next sessions."""

from __future__ import annotations

from ipaddress import ip_network

from nattrav.config.schema import Configuration
from nattrav.control.ng.server import Server
from nattrav.daemon.apply import Prepared
from nattrav.daemon.relay_metrics import RelayMetrics
from nattrav.daemon.relay_setup import build_interfaces, build_policy, claim_sockets
from nattrav.daemon.shared_key import shared_key
from nattrav.net import clock
from relay.engine import Engine
from relay.io.pump import DataPlane


class RelayFollower:
    """Changes one relay while it runs."""

    def __init__(self, engine: Engine, plane: DataPlane, server: Server, metrics: RelayMetrics) -> None:
        self._engine = engine
        self._plane = plane
        self._server = server
        self._metrics = metrics

    def prepare(self, new: Configuration) -> Prepared:
        """Lay out ports, read the key. StartRefused when an address, the ports or the key cannot be had."""
        layout = build_interfaces(new.relay, self._engine.interfaces)
        policy, _ = claim_sockets(layout, build_policy(new.relay))
        key = shared_key(new.control.shared_key_file)
        allow = [ip_network(text) for text in new.control.allow]

        def carry_out() -> None:
            layout.settle()
            with self._plane.gather():
                self._plane.rest_no_more()
            self._engine.follow(layout.interfaces, policy, clock.monotonic())
            self._metrics.follow()
            self._server.follow(allow, key, new.control.max_request_rate)

        return Prepared(carry_out, ("relay.interfaces",) if layout.keeps_removed else ())
