"""What may stand at the edge of the laboratory: the bundle under test, or the rig it is compared with."""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import trio

from nattrav.control.socket.io.client import ask
from nattrav.metrics.samples import Export
from tests.natlab.kamailio import KamailioEdge, start_rtpengine
from tests.natlab.laboratory import BUNDLE, BUNDLE_SECOND, GATEWAY, Laboratory
from tests.natlab.namespaces import LaboratoryFault, Program, execute, within

PASSWORD = "pw"
MEDIA_PORTS = range(30000, 40000)
STARTING_SECONDS = 30.0


class Edge(Protocol):
    """A SIP edge in the bundle's namespace: numbers beginning with 9 go to the gateway, other names are phones."""

    name: str
    domain: str

    def __enter__(self) -> Edge: ...

    def __exit__(self, *_: object) -> None: ...

    def log(self) -> str: ...

    @property
    def media_ports(self) -> range: ...


def command() -> Path:
    """The `nattrav` program of the environment the tests run in."""
    return Path(sys.executable).with_name("nattrav")


@dataclass
class NattravEdge:
    """`nattrav run` with a configuration file, as an operator starts it.

    `more` is TOML that is put before the tables of `[sip]`'s sub-tables, for tests that need another setting.
    """

    laboratory: Laboratory
    users: Iterable[str] = ()
    name: str = "nattrav"
    domain: str = BUNDLE
    listen: tuple[str, ...] = (BUNDLE,)
    sip: str = ""
    relay: str = ""
    more: str = ""
    gateway: str = GATEWAY
    directory: Path = field(init=False)
    program: Program = field(init=False)

    def __enter__(self) -> NattravEdge:
        self.directory = self.laboratory.directory / "bundle"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.file = self.directory / "nattrav.toml"
        self.file.write_text(self.configuration())
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.program.stop()

    def configuration(self) -> str:
        users = "".join(f'[[user]]\nname = "{user}"\npassword = "{PASSWORD}"\n' for user in self.users)
        listen = ", ".join(f'"{address}"' for address in self.listen)
        authentication = "digest" if users else "none"
        return f"""
[sip]
listen = [{listen}]
mode = "registrar"
{self.sip}
[sip.registrar]
authentication = "{authentication}"
[sip.limits]
requests_per_source = 1000
burst = 2000
[relay]
ports = "{MEDIA_PORTS[0]}-{MEDIA_PORTS[-1]}"
{self.relay}
[stun]
listen = ["{BUNDLE}", "{BUNDLE_SECOND}"]
[[upstream]]
name = "gateway"
target = "{self.gateway}"
prefixes = ["9"]
probe = false
{users}
{self.more}
"""

    def start(self) -> None:
        """Start the bundle; returns when it takes calls."""
        self.program = self.laboratory.bundle.namespace.start(
            command(), "run", "--config", self.file, name="nattrav", environment=self.environment
        )
        self.program.wait_listening("tcp", 8080, STARTING_SECONDS)
        deadline = time.monotonic() + STARTING_SECONDS
        while not within(self.laboratory.bundle.namespace.name, _ready):
            if self.program.process.poll() is not None or time.monotonic() > deadline:
                raise LaboratoryFault(f"nattrav run does not become ready:\n{self.log()}")
            time.sleep(0.05)

    @property
    def environment(self) -> dict[str, str]:
        """Run and state directories of its own, so that nothing of this machine is touched."""
        return {
            "NATTRAV_RUNTIME_DIR": str(self.directory / "run"),
            "NATTRAV_STATE_DIR": str(self.directory / "state"),
        }

    def ask(self, *arguments: str) -> str:
        """Run a verb such as `sessions list --json` beside the bundle; returns what it printed."""
        prefix = ["env", *(f"{key}={value}" for key, value in self.environment.items())]
        return self.laboratory.bundle.namespace.execute(*prefix, str(command()), *arguments)

    def verb(self, service: str, verb: str, **arguments: Any) -> Any:
        """Ask a service of the bundle on its control socket; quicker than `ask`, which starts a program."""
        return trio.run(ask, self.directory / "run" / f"{service}.sock", verb, arguments)

    def metrics(self) -> Export:
        """Every sample of every service as of now; `/metrics` may be a second old."""
        export: Export = self.verb("supervisor", "metrics")
        return export

    def children(self) -> dict[str, int]:
        """Process ids of the services by role, as the supervisor started them."""
        found = {}
        for line in execute("ps", "-o", "pid=,args=", "--ppid", str(self.program.process.pid)).splitlines():
            pid, _, arguments = line.strip().partition(" ")
            role = next((name for name in ("stun", "relay", "proxy") if f" {name}" in arguments), None)
            if role is not None:
                found[role] = int(pid)
        return found

    def log(self) -> str:
        return self.program.output()

    @property
    def media_ports(self) -> range:
        return MEDIA_PORTS


@dataclass
class NattravProxyEdge(NattravEdge):
    """Our proxy with Debian's rtpengine as its relay."""

    name: str = "nattrav proxy + rtpengine"
    more: str = '[node]\nservices = ["stun", "proxy"]\n[control]\nrelays = ["udp:127.0.0.1:2223"]\n'

    def __enter__(self) -> NattravProxyEdge:
        self.relay_program = start_rtpengine(
            self.laboratory.bundle.namespace, self.laboratory.directory / "rtpengine", interface=BUNDLE
        )
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.relay_program.stop()


def _ready() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def choose(laboratory: Laboratory, users: Iterable[str] = ()) -> Edge:
    """The edge the environment asks for: `NATTRAV_EDGE=kamailio` runs a test against the reference rig."""
    if os.environ.get("NATTRAV_EDGE") == "kamailio":
        return KamailioEdge(laboratory)
    return NattravEdge(laboratory, users)


def missing() -> str | None:
    """Say which user agent or tool the laboratory's calls lack, as a skip reason."""
    if shutil.which("baresip") is None:
        return "needs baresip: apt install baresip-core"
    if shutil.which("conntrack") is None:
        return "needs conntrack: apt install conntrack"
    return None
