"""Reads nft's rules as JSON and tells whether they let a new datagram or connection to one of our ports in.

What a rule asks of the packet beyond its protocol and port – its source, its interface, a rate – may hold or not. A
rule that accepts under such a condition lets some in; one that drops under it is taken for a limit or a ban.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Rule = Mapping[str, Any]
_FAMILIES = ("ip", "inet")
_HOOKS = ("prerouting", "input")
_WAY_OUT = ("output", "postrouting")
_WITHOUT_EFFECT = frozenset({"match", "notrack", "accept", "counter", "log", "return"})
"""Statements that leave a packet on its way out as it is."""
_OTHERS = "another protocol's"
_OUTSIDE = "an interface that packets from outside come in by"
_ENDS = frozenset({"accept", "drop", "reject"})
_DEEPEST = 16
"""Jumps that nft allows itself."""


class Way(enum.Enum):
    """What happens to packets to one port."""

    OPEN = "open"
    SOME = "some"
    """Under conditions that cannot be told here, such as a source address."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules do, and which base chain (family, table, chain) ends packets that do not get in."""

    way: Way
    chain: tuple[str, str, str] | None = None


@dataclass
class _Packet:
    protocol: str
    port: int
    state: str = "new"


@dataclass
class Ruleset:
    """The rules that concern IPv4 packets to this host."""

    bases: list[Rule] = field(default_factory=list)
    rules: dict[tuple[str, str, str], list[Rule]] = field(default_factory=dict)
    sets: dict[tuple[str, str, str], list[Any]] = field(default_factory=dict)
    leaving: list[Rule] = field(default_factory=list)
    """Base chains that packets of this host pass on their way out."""

    @classmethod
    def parse(cls, text: str) -> Ruleset:
        """Read the output of `nft -j list ruleset`. ValueError when it is none."""
        try:
            entries: Sequence[Mapping[str, Any]] = json.loads(text)["nftables"]
        except (ValueError, KeyError, TypeError):
            raise ValueError("no ruleset in JSON") from None
        found = cls()
        for entry in entries:
            for kind, one in entry.items():
                if kind == "metainfo" or one["family"] not in _FAMILIES:
                    continue
                if kind == "chain":
                    found.rules.setdefault(_chain(one, one["name"]), [])
                    if one.get("hook") in _HOOKS:
                        found.bases.append(one)
                    elif one.get("hook") in _WAY_OUT:
                        found.leaving.append(one)
                elif kind == "rule":
                    found.rules.setdefault(_chain(one, one["chain"]), []).append(one)
                elif kind in ("set", "map"):
                    found.sets[_chain(one, one["name"])] = one.get("elem", [])
        found.bases.sort(key=lambda base: (_HOOKS.index(base["hook"]), base["prio"]))
        return found

    def at_the_way_out(self) -> list[tuple[str, str, str]]:
        """Give the base chains (family, table, chain) that may drop or change what leaves this host."""
        chains = [(base, _chain(base, base["name"])) for base in self.leaving]
        return [chain for base, chain in chains if base.get("policy", "accept") != "accept" or self._touches(chain)]

    def _touches(self, chain: tuple[str, str, str]) -> bool:
        return any(not _WITHOUT_EFFECT.issuperset(one) for rule in self.rules.get(chain, ()) for one in rule["expr"])

    def judge(self, protocol: str, port: int) -> Judgement:
        """Tell whether new packets of `udp` or `tcp` to a port get in."""
        packet, way, at = _Packet(protocol, port), Way.OPEN, None
        for base in self.bases:
            if base.get("type") == "nat":
                continue
            chain = _chain(base, base["name"])
            run = _Run(self, packet)
            ended = run.chain(chain, certain=True) or base.get("policy", "accept")
            if ended != "accept":
                if not run.some:
                    return Judgement(Way.CLOSED, chain)
                way, at = Way.SOME, chain
        return Judgement(way, at)


def _chain(one: Rule, name: str) -> tuple[str, str, str]:
    return (one["family"], one["table"], name)


@dataclass
class _Run:
    ruleset: Ruleset
    packet: _Packet
    some: bool = False
    """A rule accepted under a condition that may hold."""

    def chain(self, name: tuple[str, str, str], *, certain: bool, depth: int = 0) -> str | None:
        """Walk a chain; give how it ends the packet for certain, None when it does not."""
        if depth > _DEEPEST:
            return None
        for rule in self.ruleset.rules.get(name, ()):
            holds: bool | None = True if certain else None
            for statement in rule["expr"]:
                kind, value = next(iter(statement.items()))
                if kind == "match":
                    holds = _both(holds, self._matches(name, value))
                elif kind in ("limit", "xt", "quota", "connlimit") or (kind == "set" and "stmt" in (value or {})):
                    holds = _both(holds, None)
                elif kind == "notrack" and holds:
                    self.packet.state = "untracked"
                else:
                    ended = self._end(name, kind, value, holds, depth)
                    if ended is not None:
                        return None if ended == "return" else ended
                if holds is False:
                    break
        return None

    def _end(self, name: tuple[str, str, str], kind: str, value: Any, holds: bool | None, depth: int) -> str | None:
        if kind == "vmap":
            data = value["data"]
            elements = data["set"] if isinstance(data, dict) else self.ruleset.sets.get((*name[:2], data[1:]), ())
            for key, verdict in elements:
                one = _both(holds, self._matches(name, {"op": "==", "left": value["key"], "right": key}))
                word, target = next(iter(verdict.items()))
                ended = None if one is False else self._end(name, word, target, one, depth)
                if ended is not None:
                    return ended
        elif kind in ("jump", "goto"):
            ended = self.chain((*name[:2], value["target"]), certain=holds is True, depth=depth + 1)
            return ended if ended is not None or kind == "jump" or not holds else "return"
        elif kind in _ENDS and holds is None:
            self.some = self.some or kind == "accept"
        elif (kind in _ENDS or kind == "return") and holds:
            return kind
        return None

    def _matches(self, name: tuple[str, str, str], match: Mapping[str, Any]) -> bool | None:
        actual = self._actual(match["left"])
        if actual is None or actual is _OTHERS:
            return None if actual is None else False
        found = self._among(name, actual, match["right"])
        if found is None:
            return None
        return found if match["op"] in ("==", "in") else not found if match["op"] == "!=" else None

    def _actual(self, left: Mapping[str, Any]) -> int | str | None:
        """What of the packet a rule asks for; None when only a real one would tell."""
        kind, value = next(iter(left.items()))
        key = value.get("key") if isinstance(value, dict) else None
        if kind == "ct":
            return self.packet.state if key == "state" else None
        if kind == "meta":
            known = {"l4proto": self.packet.protocol, "nfproto": "ipv4", "protocol": "ip", "pkttype": "unicast"}
            return _OUTSIDE if key in ("iif", "iifname") else known.get(str(key))
        if kind != "payload" or "protocol" not in value:
            return None
        protocol, asked = value["protocol"], value["field"]
        if protocol == "ip":
            return self.packet.protocol if asked == "protocol" else None
        if protocol in ("ether", "vlan"):
            return None
        if protocol not in ("th", self.packet.protocol):
            return _OTHERS
        return self.packet.port if asked == "dport" else None

    def _among(self, name: tuple[str, str, str], actual: int | str, right: Any) -> bool | None:
        if isinstance(right, str) and right.startswith("@"):
            elements = self.ruleset.sets.get((*name[:2], right[1:]))
            return None if elements is None else self._among(name, actual, elements)
        if isinstance(right, dict):
            kind, value = next(iter(right.items()))
            if kind == "range":
                return isinstance(actual, int) and value[0] <= actual <= value[1]
            return self._among(name, actual, value) if kind in ("set", "elem") else None
        if isinstance(right, list):
            found = [self._among(name, actual, one) for one in right]
            return True if True in found else None if None in found else False
        if actual is _OUTSIDE:
            return False if right == "lo" else None
        return bool(actual == right)


def _both(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def worst(judgements: Iterable[Judgement]) -> Judgement:
    """Give the judgement that lets the least in."""
    order = list(Way)
    return max(judgements, key=lambda one: order.index(one.way), default=Judgement(Way.OPEN))
