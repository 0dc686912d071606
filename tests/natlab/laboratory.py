"""The topology: an Internet, the bundle and a gateway on it, and subscribers behind routers of every kind.

    phone ── router ──┐                ┌── bundle   203.0.113.1, 203.0.113.2, 2001:db8::1
    phone ── router ──┤  the Internet  ├── gateway  203.0.113.80, 2001:db8::80
    phone ────────────┘   (a bridge)   └── core     203.0.113.90, made when asked for

Addresses are those kept for documentation. A packet to a private address is lost on this Internet, as in life.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.natlab.namespaces import PREFIX, Namespace, create, link, remove
from tests.natlab.nats import Kind, rules

BUNDLE, BUNDLE_SECOND, GATEWAY, CORE = "203.0.113.1", "203.0.113.2", "203.0.113.80", "203.0.113.90"
BUNDLE6, GATEWAY6 = "2001:db8::1", "2001:db8::80"
# All of these are on the one wire; routed subscriber networks answer there by proxy.
_ON_LINK = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24")
_serials = itertools.count()


@dataclass
class Host:
    """A machine with one interface, `e0`."""

    namespace: Namespace
    address: str
    address6: str | None = None


@dataclass
class Subscriber:
    """A household: phones, and the routers between them and the Internet (inner one first)."""

    name: str
    kind: Kind
    public: str
    phones: list[Host]
    routers: list[Namespace] = field(default_factory=list)
    rules: str = ""

    @property
    def phone(self) -> Host:
        return self.phones[0]

    def forget_mappings(self) -> None:
        """Make every router of the household lose its translation table, as a restart or a short lifetime does."""
        for router in self.routers:
            router.execute("conntrack", "-F")

    def block_sip_over_udp(self) -> None:
        """Let the outer router drop SIP over UDP, as a firewall does that knows the port; media passes."""
        self.routers[-1].nft(
            "table ip no_sip {\n chain pass {\n  type filter hook forward priority 0;\n  udp dport 5060 drop\n }\n}\n"
        )

    @contextmanager
    def signalling_lost(self) -> Iterator[None]:
        """Let the outer router lose every packet to or from a SIP port, both ways; media passes."""
        outer = self.routers[-1]
        outer.nft(
            "table ip lossy {\n chain pass {\n  type filter hook forward priority 0;\n"
            "  udp dport 5060 drop\n  udp sport 5060 drop\n }\n}\n"
        )
        try:
            yield
        finally:
            outer.execute("nft", "delete", "table", "ip", "lossy")

    def binding_lifetime(self, seconds: int) -> None:
        """Let UDP mappings end after so many seconds of silence."""
        for router in self.routers:
            router.sysctl(
                netfilter__nf_conntrack_udp_timeout=seconds, netfilter__nf_conntrack_udp_timeout_stream=seconds
            )


class Laboratory:
    """Builds the Internet on entry and removes every namespace on exit, also after a failure.

    `directory` keeps logs and recordings; without one a temporary directory is made, removed unless something failed.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.prefix = f"{PREFIX}{os.getpid()}x{next(_serials)}-"
        self._own_directory = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix=self.prefix)) if directory is None else directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.namespaces: list[Namespace] = []
        self.subscribers: dict[str, Subscriber] = {}
        self._numbers = itertools.count(1)
        self._routed_numbers = itertools.count(0)
        self._ports = itertools.count()

    def __enter__(self) -> Laboratory:
        try:
            self.internet = self._namespace("internet")
            self.internet.ip(
                "link add inet type bridge forward_delay 0",
                "link set inet up",
                *(f"address add {net.replace('.0/', '.254/')} dev inet" for net in _ON_LINK),
                "address add 2001:db8::fffe/32 dev inet",
            )
            self.bundle = self.host("bundle", BUNDLE, BUNDLE6)
            self.bundle.namespace.ip(f"address add {BUNDLE_SECOND}/24 dev e0")
            self.gateway = self.host("gateway", GATEWAY, GATEWAY6)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
        if self._own_directory and fault is None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def remove(self) -> None:
        """Stop what runs inside, then take the topology down."""
        for namespace in reversed(self.namespaces):
            for program in reversed(namespace.programs):
                program.stop(seconds=2.0)
        remove([namespace.name for namespace in self.namespaces])
        self.namespaces.clear()

    def host(self, name: str, address: str, address6: str | None = None) -> Host:
        """Join a machine directly to the Internet."""
        host = Host(self._namespace(name), address, address6)
        self._join_internet(host.namespace, "e0", address, address6)
        return host

    def subscriber(self, name: str, kind: Kind, phones: int = 1) -> Subscriber:
        """Join a household of `phones` phones behind a router of that kind."""
        number = next(self._numbers)
        if kind is Kind.OPEN:
            public = f"198.51.100.{number}"
            made = Subscriber(name, kind, public, [self.host(f"{name}-phone", public, f"2001:db8:f::{number:x}")])
        elif kind is Kind.SYMMETRIC_FIREWALL:
            inside = f"192.0.2.{8 * next(self._routed_numbers)}"
            made = self._routed(name, kind, number, phones, inside=inside, length=29)
        elif kind is Kind.IPV6_FIREWALL:
            made = self._routed(name, kind, number, phones, inside=f"10.{number}.0.0", length=24)
        else:
            made = self._translated(name, kind, number, phones)
        self.subscribers[name] = made
        return made

    def logs(self) -> str:
        """Every log of the laboratory, for a failure report."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}"
            for path in sorted(self.directory.glob("*.log"))
        )

    def _translated(self, name: str, kind: Kind, number: int, phones: int) -> Subscriber:
        public = f"198.51.100.{number}"
        home = self._namespace(f"{name}-router")
        routers = [home]
        if kind is Kind.CARRIER_GRADE:
            carrier = self._namespace(f"{name}-carrier")
            routers.append(carrier)
            link(home, "wan", carrier, "lan")
            home.ip(f"address add 100.64.{number}.2/24 dev wan", f"route add default via 100.64.{number}.1")
            carrier.ip(f"address add 100.64.{number}.1/24 dev lan")
            self._join_internet(carrier, "wan", public, None)
            carrier.sysctl(ipv4__ip_forward=1)
            carrier.nft(rules(Kind.SYMMETRIC, lan=f"100.64.{number}.0/24", public=public, phone=f"100.64.{number}.2"))
        else:
            self._join_internet(home, "wan", public, None)
        inside = self._behind(home, name, f"10.{number}.0.", 24, first=5, count=phones)
        ruleset = rules(
            Kind.PORT_RESTRICTED if kind is Kind.CARRIER_GRADE else kind,
            lan=f"10.{number}.0.0/24",
            public=public,
            phone=inside[0].address,
        )
        home.nft(ruleset)
        return Subscriber(name, kind, public, inside, routers, ruleset)

    def _routed(self, name: str, kind: Kind, number: int, phones: int, *, inside: str, length: int) -> Subscriber:
        """A household whose router translates nothing; it answers for its inside addresses on the outside wire."""
        router = self._namespace(f"{name}-router")
        self._join_internet(router, "wan", f"198.51.100.{number}", f"2001:db8:e::{number:x}")
        router.ip(f"route del {_ON_LINK[2]} dev wan")
        router.sysctl(
            ipv4__conf__wan__proxy_arp=1,
            ipv4__neigh__wan__proxy_delay=0,
            ipv6__conf__all__forwarding=1,
            ipv6__conf__wan__proxy_ndp=1,
            ipv6__neigh__wan__proxy_delay=0,
        )
        network, last = inside.rsplit(".", 1)
        network6 = f"2001:db8:1{number:02x}::" if kind is Kind.IPV6_FIREWALL else None
        hosts = self._behind(router, name, f"{network}.", length, first=int(last) + 2, count=phones, network6=network6)
        for host in hosts:
            if host.address6 is not None:
                router.ip(f"neigh add proxy {host.address6} dev wan")
        ruleset = rules(kind, lan=f"{inside}/{length}", public=f"198.51.100.{number}", phone=hosts[0].address)
        router.nft(ruleset)
        return Subscriber(name, kind, hosts[0].address6 or hosts[0].address, hosts, [router], ruleset)

    def _behind(
        self,
        router: Namespace,
        name: str,
        network: str,
        length: int,
        *,
        first: int,
        count: int,
        network6: str | None = None,
    ) -> list[Host]:
        """The inside of a household: a switch on the router, phones on it. Returns the phones."""
        own = f"{network}{1 if length == 24 else first - 1}"
        router.ip(
            "link add lan type bridge forward_delay 0",
            "link set lan up",
            f"address add {own}/{length} dev lan",
            *([f"address add {network6}1/64 dev lan nodad"] if network6 else []),
        )
        router.sysctl(ipv4__ip_forward=1)
        hosts = []
        for index in range(count):
            phone = self._namespace(f"{name}-phone" + (str(index + 1) if index else ""))
            link(phone, "e0", router, f"p{index}")
            router.ip(f"link set p{index} master lan")
            host = Host(phone, f"{network}{first + index}", f"{network6}{first + index:x}" if network6 else None)
            phone.ip(f"address add {host.address}/{length} dev e0", f"route add default via {own}")
            if network6:
                phone.ip(f"address add {host.address6}/64 dev e0 nodad", f"route add default via {network6}1")
            hosts.append(host)
        return hosts

    def _namespace(self, name: str) -> Namespace:
        namespace = create(self.prefix + name, self.directory)
        self.namespaces.append(namespace)
        return namespace

    def _join_internet(self, namespace: Namespace, interface: str, address: str, address6: str | None) -> None:
        port = f"p{next(self._ports)}"
        link(namespace, interface, self.internet, port)
        self.internet.ip(f"link set {port} master inet")
        own = next(net for net in _ON_LINK if net.rsplit(".", 1)[0] == address.rsplit(".", 1)[0])
        namespace.ip(
            f"address add {address}/24 dev {interface}",
            *(f"route add {net} dev {interface}" for net in _ON_LINK if net != own),
            f"route add default via {own.replace('.0/24', '.254')}",
            *([f"address add {address6}/32 dev {interface} nodad"] if address6 else []),
        )
