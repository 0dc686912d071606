"""Our data plane without a control channel: flows are named on standard input, as for `epoll_relay`.

`python -m bench.relay_direct IP BACKEND THREADS [COALESCE_MS] < lines of "a-ip a-port b-ip b-port"` prints lines of
relay ports, then `ready`, and forwards until its input line `stop`.
"""

from __future__ import annotations

import resource
import sys
import threading
from dataclasses import replace

from nattrav.net.address import TransportAddress
from nattrav.net.bpf.programs import Mode
from nattrav.net.options import open_udp
from relay.io.pump import COALESCE, open_plane
from relay.offload.io.loader import open_xdp
from relay.plane import Content, FlowSettings


def main() -> None:
    """Open the flows and wait."""
    host, backend, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    coalesce = float(sys.argv[4]) / 1000 if len(sys.argv) > 4 else COALESCE
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kernel = None
    if backend.startswith("xdp"):
        kernel = open_xdp([host], 1 << 16, mode=Mode(backend.partition("-")[2] or "native"))
        backend = "auto"
    plane = open_plane(threads, backend, coalesce=coalesce, kernel=kernel)
    plane.start()
    for number, line in enumerate(iter(sys.stdin.readline, "end\n")):
        words = line.split()
        parties = [TransportAddress(words[0], int(words[1])), TransportAddress(words[2], int(words[3]))]
        settings, flows, ports = [], [], []
        for party in parties:
            sock = open_udp(TransportAddress(host, 0))
            ports.append(sock.getsockname()[1])
            settings.append(FlowSettings(Content.RTP, advertised=party, public=True, packet_rate_limit=1 << 30))
            flows.append(plane.open(sock, TransportAddress(host, ports[-1]), settings[-1], shard=number % plane.shards))
        for side in (0, 1):
            plane.set(flows[side], replace(settings[side], egress=flows[1 - side]), relearn=False)
        print(*ports)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "stats":
            batches, packets, drops = plane.totals()
            print(batches, packets, drops, threading.active_count(), plane.offloaded(), flush=True)
        else:
            break
    plane.stop()
    if kernel is not None:
        kernel.close()


if __name__ == "__main__":
    main()
