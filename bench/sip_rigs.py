"""The SIP edges that are compared, each alone on one core of the bundle's host."""

from __future__ import annotations

import os
import re
import resource
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.natlab import kamailio
from tests.natlab.edges import command
from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory
from tests.natlab.namespaces import Program, execute

PASSWORD = "pw"
_TICKS = os.sysconf("SC_CLK_TCK")
_PORTS = (20000, 37999)
_FILES = ("prlimit", f"--nofile={resource.getrlimit(resource.RLIMIT_NOFILE)[1]}")


class Rig(Protocol):
    """A program under test; `core` is the only one it may use."""

    name: str

    def __enter__(self) -> Rig: ...

    def __exit__(self, *_: object) -> None: ...

    def memory(self) -> int: ...


def processor_seconds(laboratory: Laboratory) -> float:
    """User and system time that every process in the bundle's namespace has used so far."""
    total = 0
    for pid in execute("ip", "netns", "pids", laboratory.bundle.namespace.name).split():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def proportional_memory(laboratory: Laboratory) -> int:
    """Proportional set size in bytes of every process in the bundle's namespace."""
    total = 0
    for pid in execute("ip", "netns", "pids", laboratory.bundle.namespace.name).split():
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found.group(1)) * 1024 if found else 0
    return total


@dataclass
class KamailioRig:
    """Kamailio with one worker, and rtpengine in user space with one thread."""

    laboratory: Laboratory
    core: int
    name: str = "Kamailio + rtpengine"
    authentication: bool = False
    ping_interval: int = 0

    def __enter__(self) -> KamailioRig:
        namespace, directory = self.laboratory.bundle.namespace, self.laboratory.directory / "kamailio-rig"
        prefix = ("taskset", "-c", str(self.core), *_FILES)
        self._relay = kamailio.start_rtpengine(namespace, directory, interface=BUNDLE, ports=_PORTS, prefix=prefix)
        text = kamailio.configuration(
            listen=(f"udp:{BUNDLE}:5060",),
            relay="udp:127.0.0.1:2223",
            upstream=f"{GATEWAY}:5060",
            password=PASSWORD if self.authentication else None,
            children=1,
            ping_interval=self.ping_interval,
            directory=directory,
        )
        self._control = directory / "ctl.sock"
        self._proxy = kamailio.start_kamailio(namespace, directory, text, prefix=prefix, shared_megabytes=512)
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.stop()
        self._relay.stop()

    def memory(self) -> int:
        """Shared memory in use (the pool itself is reserved at start) and what rtpengine holds."""
        text = self.laboratory.bundle.namespace.execute("kamcmd", "-s", f"unix:{self._control}", "core.shmmem")
        used = re.search(r"real_used: (\d+)", text)
        status = Path(f"/proc/{self._relay.process.pid}/smaps_rollup").read_text()
        resident = re.search(r"^Pss:\s+(\d+) kB", status, re.MULTILINE)
        return (int(used.group(1)) if used else 0) + (int(resident.group(1)) * 1024 if resident else 0)


@dataclass
class NattravRig:
    """`nattrav run`: supervisor, STUN, relay with one data thread, and proxy."""

    laboratory: Laboratory
    core: int
    name: str = "nattrav"
    users: Iterable[str] = ()
    keepalive: bool = False

    def __enter__(self) -> NattravRig:
        directory = self.laboratory.directory / "nattrav-rig"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        users = "".join(f'[[user]]\nname = "{user}"\npassword = "{PASSWORD}"\n' for user in self.users)
        file = directory / "nattrav.toml"
        file.write_text(
            f"""
[sip]
listen = ["udp:{BUNDLE}"]
mode = "registrar"
history = 0
realm = "{BUNDLE}"
[sip.registrar]
authentication = "{"digest" if users else "none"}"
algorithms = ["MD5"]
[sip.keepalive]
method = "{"auto" if self.keepalive else "none"}"
[sip.limits]
requests_per_source = 1000000
burst = 1000000
calls_per_user = 100000
[relay]
ports = "{_PORTS[0]}-{_PORTS[1]}"
quarantine = "1s"
interfaces = ["{BUNDLE}"]
[stun]
listen = ["{BUNDLE}"]
[[upstream]]
name = "gateway"
target = "{GATEWAY}"
prefixes = ["9"]
probe = false
{users}
"""
        )
        self.program: Program = self.laboratory.bundle.namespace.start(
            "taskset", "-c", str(self.core), *_FILES, command(), "run", "--config", file,
            name="nattrav", directory=directory,
            environment={"NATTRAV_RUNTIME_DIR": f"{directory}/run", "NATTRAV_STATE_DIR": f"{directory}/state"},
        )  # fmt: skip
        self.program.wait_listening("udp", 5060, 60.0)
        self.program.wait_listening("tcp", 8080, 60.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.program.stop(seconds=10.0)

    def memory(self) -> int:
        return proportional_memory(self.laboratory)
