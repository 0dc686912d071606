"""Network namespaces, the links between them, and programs that run inside."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

RUN_DIRECTORY = Path("/run/netns")
PREFIX = "natlab-"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
Made = TypeVar("Made")


class LaboratoryFault(Exception):
    """A command that builds the laboratory failed; the message has its output."""


def missing() -> str | None:
    """Say what the laboratory lacks here, as a skip reason, or None when it can be built."""
    if os.geteuid() != 0:
        return "needs root"
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"needs {program}: apt install {package}"
    return None


def execute(*arguments: str, given: str | None = None) -> str:
    """Run a command to its end and return what it printed; raises LaboratoryFault."""
    done = subprocess.run(arguments, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LaboratoryFault(f"{' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}\n{given or ''}")
    return done.stdout


def within(namespace: str, make: Callable[[], Made]) -> Made:
    """Call `make` in a thread that stands inside the namespace: a socket it opens stays there for its life."""
    result: list[Made] = []
    fault: list[BaseException] = []

    def enter() -> None:
        try:
            handle = os.open(RUN_DIRECTORY / namespace, os.O_RDONLY)
            try:
                if _libc.setns(handle, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {namespace}")
            finally:
                os.close(handle)
            result.append(make())
        except BaseException as error:  # carried to the caller's thread
            fault.append(error)

    thread = threading.Thread(target=enter, name=f"enter {namespace}")
    thread.start()
    thread.join()
    if fault:
        raise fault[0]
    return result[0]


@dataclass
class Program:
    """A process inside a namespace; its output is kept in a file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 10.0) -> str:
        """Wait until the output holds `text`; raises LaboratoryFault with the output's end."""
        deadline = time.monotonic() + seconds
        while True:
            output = self.output()
            if text in output:
                return output
            if self.process.poll() is not None:
                raise LaboratoryFault(
                    f"{self.name} ended ({self.process.returncode}) before {text!r}:\n{output[-3000:]}"
                )
            if time.monotonic() > deadline:
                raise LaboratoryFault(f"{self.name} did not say {text!r} in {seconds} s:\n{output[-3000:]}")
            time.sleep(0.02)

    def wait_listening(self, transport: str, port: int, seconds: float = 10.0) -> None:
        """Wait until something in this program's namespace has that port open; raises LaboratoryFault."""
        deadline = time.monotonic() + seconds
        while not _listens(self.process.pid, transport, port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise LaboratoryFault(f"{self.name} did not open {transport} {port}:\n{self.output()[-3000:]}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 5.0) -> int:
        """End the process and whatever it started; returns its exit status (negative: killed by that signal)."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            status = self.process.wait()
        return status


@dataclass
class Namespace:
    """One host: a network namespace of its own."""

    name: str
    logs: Path
    programs: list[Program] = field(default_factory=list)

    def ip(self, *lines: str) -> None:
        """Run iproute2 commands inside, one a line, at one start of the program."""
        execute("ip", "-n", self.name, "-batch", "-", given="\n".join(lines) + "\n")

    def sysctl(self, **settings: str | int) -> None:
        """Set `net.*` keys; write `__` for a dot."""

        def write() -> None:
            for key, value in settings.items():
                Path("/proc/sys/net", *key.split("__")).write_text(str(value))

        within(self.name, write)

    def nft(self, rules: str) -> None:
        self.execute("nft", "-f", "-", given=rules)

    def execute(self, *arguments: str, given: str | None = None) -> str:
        return execute("ip", "netns", "exec", self.name, *arguments, given=given)

    def start(
        self,
        *arguments: str | Path,
        name: str | None = None,
        directory: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> Program:
        """Start a program inside; its standard output and error go to `<logs>/<namespace>-<name>.log`."""
        name = name or Path(arguments[0]).name
        log = self.logs / f"{self.name.removeprefix(PREFIX).split('-', 1)[-1]}-{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        program = Program(name, process, log)
        self.programs.append(program)
        return program


def create(name: str, logs: Path) -> Namespace:
    """Make a namespace with its loopback up and without IPv6 duplicate address detection."""
    execute("ip", "netns", "add", name)
    namespace = Namespace(name, logs)
    namespace.ip("link set lo up")
    namespace.sysctl(
        ipv6__conf__all__accept_dad=0,
        ipv6__conf__default__accept_dad=0,
        ipv6__conf__default__accept_ra=0,
        ipv4__conf__default__rp_filter=0,
        ipv4__conf__all__rp_filter=0,
    )
    return namespace


def link(left: Namespace, left_name: str, right: Namespace, right_name: str) -> None:
    """Lay a virtual cable between two hosts and switch both ends on."""
    execute("ip", "link", "add", left_name, "netns", left.name, "type", "veth",
            "peer", "name", right_name, "netns", right.name)  # fmt: skip
    left.ip(f"link set {left_name} up")
    right.ip(f"link set {right_name} up")


def remove(names: Sequence[str]) -> None:
    """End every process inside these namespaces and remove them; what is gone already is no fault."""
    for name in names:
        for pid in _processes(name):
            _kill(pid)
    for name in names:
        deadline = time.monotonic() + 3.0
        while _processes(name) and time.monotonic() < deadline:
            time.sleep(0.02)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def leftovers(prefix: str = PREFIX) -> list[str]:
    """Name the laboratory's namespaces that exist now."""
    if not RUN_DIRECTORY.is_dir():
        return []
    return sorted(path.name for path in RUN_DIRECTORY.iterdir() if path.name.startswith(prefix))


def _listens(pid: int, transport: str, port: int) -> bool:
    wanted_state = "0A" if transport == "tcp" else "07"
    for name in (transport, transport + "6"):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state = line.split()[:4]
            if state == wanted_state and int(local.rsplit(":", 1)[1], 16) == port:
                return True
    return False


def _processes(namespace: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
