"""Relays under test and the traffic for them.

Two network namespaces with a veth pair between them: the generator in one, the relay under test in the other. What
comes back is dropped at the generator's interface after it was counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.tally import RIPE_EVERY

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent
BUILD = ROOT / ".build"
FAR, NEAR = "plbenchg", "plbenchr"
FAR_DEVICE, NEAR_DEVICE = "plbg0", "plbr0"
RELAY_IP, FAR_IP = "10.77.0.2", "10.77.0.1"
PARTY_IPS = ("10.77.1.1", "10.77.1.2")
NOBODY = "02:00:00:00:77:77"
FIRST_PORT = 20480
CONTROL = 2223
FIRST_MEDIA_PORT = 10000
DESCRIPTORS = 131_072
"""Open files to ask the system for: more than there are ports."""
GENERATOR_CPU, RELAY_CPU = 0, 1

Row = dict[str, Any]


def run_command(*command: str, **options: Any) -> str:
    """Run a command that must succeed; give its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def in_namespace(namespace: str, *command: str) -> list[str]:
    """Give a command that runs inside a namespace."""
    return ["ip", "netns", "exec", namespace, *command]


def build() -> None:
    """Compile the generator and the C relay."""
    BUILD.mkdir(exist_ok=True)
    for name in ("generator", "epoll_relay"):
        source, program = HERE / f"{name}.c", BUILD / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            run_command("cc", "-O2", "-o", str(program), str(source), "-lpthread")


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Two namespaces joined by a veth pair.

    Party addresses exist only as neighbours with a MAC address that nobody has: what is sent to them is counted by the
    generator's interface, seen by packet sockets, and dropped before anything else looks at it.
    """
    remove_network()
    try:
        for namespace in (FAR, NEAR):
            run_command("ip", "netns", "add", namespace)
            run_command("ip", "-n", namespace, "link", "set", "lo", "up")
        run_command(
            *("ip", "link", "add", FAR_DEVICE, "netns", FAR, "type", "veth"),
            *("peer", "name", NEAR_DEVICE, "netns", NEAR),
        )
        for namespace, device, address in ((FAR, FAR_DEVICE, FAR_IP), (NEAR, NEAR_DEVICE, RELAY_IP)):
            run_command("ip", "-n", namespace, "addr", "add", f"{address}/16", "dev", device)
            run_command("ip", "-n", namespace, "link", "set", device, "up", "txqueuelen", "10000")
        for party in PARTY_IPS:
            run_command(*("ip", "-n", NEAR, "neigh", "add", party, "lladdr", NOBODY, "dev", NEAR_DEVICE))
        yield
    finally:
        remove_network()


def remove_network() -> None:
    """Remove what `network` makes, also after an earlier run that was killed."""
    for namespace in (FAR, NEAR):
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


def mac_of(namespace: str, device: str) -> str:
    """Read an interface's MAC address."""
    shown = json.loads(run_command("ip", "-n", namespace, "-j", "link", "show", device))
    address: str = shown[0]["address"]
    return address


@dataclass
class Relay:
    """A program under test: how to start it, and the relay port each party's packets go to."""

    name: str
    process: subprocess.Popen[str]
    ports: list[tuple[int, int]]
    idle_memory: int = 0
    full_memory: int = 0
    """Resident bytes before the first and after the last session was set up, before any packet."""
    stop: Callable[[], None] = field(default=lambda: None)
    steady_after: int = 0
    """Packets of a leg after which nothing about it changes any more."""
    programs: list[Path] = field(default_factory=list)
    """What /proc says of the BPF programs it has loaded, while statistics of them are kept."""

    def cpu(self) -> float:
        """CPU seconds of all threads so far, and of the BPF programs the process holds."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9 + self.program_time()

    def program_time(self) -> float:
        """CPU seconds that the kernel spent in BPF programs of this process; they run outside of its threads."""
        total = 0
        for descriptor in self.programs:
            for line in descriptor.read_text().splitlines():
                if line.startswith("run_time_ns:"):
                    total += int(line.split()[1])
        return total / 1e9

    def memory(self) -> int:
        """Resident bytes."""
        return resident(self.process.pid)


def resident(pid: int) -> int:
    """Bytes of memory a process has resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def parties(sessions: int) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Where each session's two parties are."""
    return [((PARTY_IPS[0], FIRST_PORT + 2 * n), (PARTY_IPS[1], FIRST_PORT + 2 * n)) for n in range(sessions)]


def start(command: list[str], cpus: set[int], environment: Mapping[str, str] = {}) -> subprocess.Popen[str]:
    """Start a relay in its namespace, bound to processors."""
    return subprocess.Popen(
        in_namespace(NEAR, "taskset", "-c", ",".join(map(str, sorted(cpus))), *command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment),
        preexec_fn=raise_descriptor_limit,
    )


def raise_descriptor_limit() -> int:
    """Let this process and its children open as many sockets as the system allows; give how many that are."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, max(hard, DESCRIPTORS)))
        hard = max(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def legs_possible(sockets: int, wanted: int = 20_000) -> int:
    """How many legs of `sockets` sockets each the descriptor limit allows, in whole thousands."""
    # The last twentieth of its ports a relay keeps for calls that are up.
    return min(wanted, int((raise_descriptor_limit() - 500) * 0.95) // sockets // 1000 * 1000)


def muxed(sessions: int) -> bool:
    """Tell whether RTCP must share the RTP port, because there are too few descriptors for two a leg."""
    return 2 * sessions > legs_possible(2)


def by_lines(name: str, command: list[str], sessions: int, cpus: set[int], terminator: str = "end\n") -> Relay:
    """Start a relay that reads its flows from standard input."""
    process = start(command, cpus)
    assert process.stdin is not None
    assert process.stdout is not None
    time.sleep(0.8)
    idle = resident(process.pid)
    lines = "".join(f"{a[0]} {a[1]} {b[0]} {b[1]}\n" for a, b in parties(sessions))
    # The relay answers while it reads: written from here, both pipes could fill and everybody wait.
    writer = threading.Thread(target=tell, args=(process, lines + terminator))
    writer.start()
    ports = []
    for line in process.stdout:
        if line == "ready\n":
            break
        first, second = line.split()
        ports.append((int(first), int(second)))
    writer.join()
    if len(ports) != sessions:
        process.kill()
        raise RuntimeError(f"{name} opened {len(ports)} of {sessions} sessions")
    relay = Relay(name, process, ports, idle, stop=lambda: end(process))
    relay.full_memory = relay.memory()
    return relay


def tell(process: subprocess.Popen[str], text: str) -> None:
    """Write to a relay's standard input; a relay that died meanwhile is noticed by its answers."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(text)
        process.stdin.flush()


def end(process: subprocess.Popen[str]) -> None:
    """Stop a relay."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def bare_c(sessions: int) -> Relay:
    """The plain epoll relay in C."""
    return by_lines("bare C epoll", [str(BUILD / "epoll_relay"), RELAY_IP], sessions, {RELAY_CPU}, "end x\n")


SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
)


def bencoded(value: Any) -> bytes:
    """Encode what ng carries."""
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, str):
        return bencoded(value.encode())
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, list):
        return b"l" + b"".join(map(bencoded, value)) + b"e"
    return b"d" + b"".join(bencoded(key) + bencoded(item) for key, item in sorted(value.items())) + b"e"


def media_port(reply: bytes) -> int:
    """Find the port of the first media line in a reply's SDP."""
    for line in reply.split(b"\n"):
        if line.startswith(b"m=audio "):
            return int(line.split()[1])
    raise RuntimeError(f"no media line in {reply[:200]!r}")


class Caller:
    """Sets sessions up over ng. The socket that asks lives in the relay's namespace, in a process of its own."""

    _AGENT = """
import socket, sys, time
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(5)
asking.connect((sys.argv[1], int(sys.argv[2])))
read, write = sys.stdin.buffer.read, sys.stdout.buffer.write
def ask(request):
    for attempt in range(100):
        try:
            asking.send(request)
            return asking.recv(65536)
        except ConnectionRefusedError:
            time.sleep(0.2)
    raise SystemExit("nobody answers")
while head := read(4):
    reply = ask(read(int.from_bytes(head, "big")))
    write(len(reply).to_bytes(4, "big") + reply)
    sys.stdout.buffer.flush()
"""

    def __init__(self, host: str, port: int) -> None:
        command = in_namespace(NEAR, "taskset", "-c", str(GENERATOR_CPU), sys.executable, "-c", self._AGENT)
        self._agent = subprocess.Popen([*command, host, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._asked = 0
        self._cookie = b"%d" % time.monotonic_ns()

    def ask(self, **request: Any) -> bytes:
        """Send one command and give its reply."""
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        self._asked += 1
        datagram = b"%s_%d " % (self._cookie, self._asked) + bencoded(request)
        self._agent.stdin.write(len(datagram).to_bytes(4, "big") + datagram)
        self._agent.stdin.flush()
        return self._agent.stdout.read(int.from_bytes(self._agent.stdout.read(4), "big"))

    def call(self, name: str, a: tuple[str, int], b: tuple[str, int], *, mux: bool = False) -> tuple[int, int]:
        """Offer and answer; give the relay's ports for the two parties. With `mux` RTCP shares them."""
        call: Row = {"call-id": name, "from-tag": f"a{name}", "ICE": "remove", "replace": ["origin"]}
        sdp = SDP
        if mux:
            call["rtcp-mux"] = ["require", "accept"]
            sdp += "a=rtcp-mux\r\n"
        offer = self.ask(command="offer", sdp=sdp.format(host=a[0], port=a[1]), **call)
        answer = self.ask(command="answer", sdp=sdp.format(host=b[0], port=b[1]), **{"to-tag": f"b{name}"}, **call)
        return media_port(answer), media_port(offer)

    def close(self) -> None:
        """End the asking process."""
        for stream in (self._agent.stdin, self._agent.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._agent.wait()


def over_ng(name: str, command: list[str], control: int, sessions: int, threads: int) -> Relay:
    """Start a relay that speaks ng and set its sessions up.

    Its directories are new and its own: no session of an earlier relay is restored into it.
    """
    directory = tempfile.TemporaryDirectory(prefix="nattrav-bench-")
    own = {f"NATTRAV_{kind}_DIR": f"{directory.name}/{kind.lower()}" for kind in ("RUNTIME", "STATE")}
    process = start(command, {RELAY_CPU} if threads == 1 else {GENERATOR_CPU, RELAY_CPU}, own)

    def stop() -> None:
        end(process)
        directory.cleanup()

    caller = Caller(RELAY_IP, control)
    try:
        caller.ask(command="ping")
        idle = resident(process.pid)
        mux = muxed(sessions)
        ports = [caller.call(f"c{number}", a, b, mux=mux) for number, (a, b) in enumerate(parties(sessions))]
    except BaseException:
        stop()
        raise
    finally:
        caller.close()
    relay = Relay(name, process, ports, idle, stop=stop)
    relay.full_memory = relay.memory()
    return relay


def rtpengine(sessions: int, *, threads: int = 1) -> Relay:
    """Debian's rtpengine without its kernel module."""
    command = [
        *("rtpengine", "--table=-1", f"--interface={RELAY_IP}", f"--listen-ng={RELAY_IP}:{CONTROL}"),
        *("--port-min=1024", "--port-max=65535", f"--num-threads={threads}", "--foreground", "--log-level=1"),
        *("--timeout=3600", "--silent-timeout=3600", "--offer-timeout=3600", "--log-stderr"),
    ]
    return over_ng("rtpengine", command, CONTROL, sessions, threads)


def programs_of(pid: int) -> list[Path]:
    """What /proc says of the BPF programs that a process has loaded."""
    return [one for one in Path(f"/proc/{pid}/fdinfo").iterdir() if "run_time_ns" in one.read_text()]


def ours(
    backend: str,
    sessions: int,
    *,
    threads: int = 1,
    ports: tuple[int, int] | None = None,
    transmit: str = "socket",
    offload: str = "off",
) -> Relay:
    """`nattrav relay serve`, with its XDP program where `offload` is `xdp`.

    Unless `ports` says which, it has as many ports as the sessions need and some more.
    """
    sockets = (2 if muxed(sessions) else 4) * sessions
    more = min(1500, max(300, raise_descriptor_limit() - 300 - sockets))
    first, last = ports or (FIRST_MEDIA_PORT, min(65534, FIRST_MEDIA_PORT + max(8000, sockets + more)))
    command = [
        *(str(Path(sys.executable).with_name("nattrav")), "relay", "serve", "--interface", f"public/{RELAY_IP}"),
        *("--listen-ng", f"{RELAY_IP}:{CONTROL}", "--port-min", str(first), "--port-max", str(last)),
        *("--threads", str(threads), "--backend", backend, "--allow", "10.77.0.0/16"),
        *("--transmit", transmit, "--offload", offload),
    ]
    relay = over_ng(f"nattrav {backend}", command, CONTROL, sessions, threads)
    relay.steady_after = 2 * RIPE_EVERY
    relay.programs = programs_of(relay.process.pid)
    return relay


def direct(backend: str, sessions: int, *, threads: int = 1, coalesce: str = "") -> Relay:
    """Our data plane alone, driven without a control channel."""
    command = [sys.executable, "-m", "bench.relay_direct", RELAY_IP, backend, str(threads)]
    cpus = {RELAY_CPU} if threads == 1 else {GENERATOR_CPU, RELAY_CPU}
    return by_lines(f"data plane {backend}", [*command, coalesce] if coalesce else command, sessions, cpus)


def received(pid: int) -> int:
    """Packets that came back to the generator's interface, as a process in its namespace sees them."""
    for _ in range(100):
        for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
            name, _, numbers = line.partition(":")
            if name.strip() == FAR_DEVICE:
                return int(numbers.split()[1])
        # On a busy machine the process may not have entered its namespace yet.
        time.sleep(0.05)
    raise RuntimeError("no such interface")


def measure(relay: Relay, rate: int, seconds: float, *, warm: float = 1.0) -> Row:
    """Send at a rate (0 = all that is possible) and weigh what the relay made of it."""
    flows = []
    for (a, b), (for_a, for_b) in zip(parties(len(relay.ports)), relay.ports, strict=True):
        flows += [f"{a[0]} {a[1]} {for_a}", f"{b[0]} {b[1]} {for_b}"]
    with subprocess.Popen(in_namespace(FAR, "sleep", "600")) as witness:
        try:
            return weigh(relay, flows, rate, seconds, warm, witness.pid)
        finally:
            witness.kill()


def weigh(relay: Relay, flows: list[str], rate: int, seconds: float, warm: float, witness: int) -> Row:
    """Run the generator over `flows`; `witness` is a process in the generator's namespace."""
    command = [
        *("taskset", "-c", str(GENERATOR_CPU), str(BUILD / "generator"), FAR_DEVICE, mac_of(FAR, FAR_DEVICE)),
        *(mac_of(NEAR, NEAR_DEVICE), RELAY_IP, str(len(flows)), str(rate), str(warm + seconds + 0.2)),
    ]
    before = received(witness)
    with subprocess.Popen(
        in_namespace(FAR, *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as generator:
        assert generator.stdin is not None
        assert generator.stdout is not None
        generator.stdin.write("\n".join(flows) + "\n")
        generator.stdin.close()
        time.sleep(warm)
        start_packets, start_cpu, start_time = received(witness), relay.cpu(), time.monotonic()
        time.sleep(seconds)
        end_packets, end_cpu, end_time = received(witness), relay.cpu(), time.monotonic()
        told = json.loads(generator.stdout.read())
    packets, cpu, took = end_packets - start_packets, end_cpu - start_cpu, end_time - start_time
    return {
        "relay": relay.name,
        "legs": len(flows),
        "offered": round(told["sent"] / told["seconds"]),
        "rate": round(packets / took),
        "cpu": round(cpu / took, 3),
        "us_per_packet": round(cpu / packets * 1e6, 3) if packets else None,
        "packets_per_cpu_second": round(packets / cpu) if cpu else None,
        "loss": round(max(0.0, 1 - (received(witness) - before) / told["sent"]), 5),
        "p50_us": told["p50"],
        "p99_us": told["p99"],
    }
