"""Plain Binding requests answered a batch at a time, byte for byte as the responder would.

Taken here: Binding requests, modern or classic, whose attributes have no effect on the reply, or are CHANGE-REQUEST,
or a right FINGERPRINT at the end. Sources that are never answered and wrong fingerprints are dropped here as well, so
that a flood of them stays cheap. All else is left to the responder.

Replies differ only in transaction id, addresses and fingerprint; each kind has a template which the responder itself
writes once.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nattrav.net.address import SOCKADDR_ROW, TransportAddress, to_row
from nattrav.net.batch import Batch
from stun import classic
from stun.attributes import MAGIC_COOKIE, AttributeType
from stun.behavior import CHANGE_MASK, REFLECTION_PORTS
from stun.crc import LENGTH_MAX, crc32_rows, distances
from stun.integrity import FINGERPRINT_XOR
from stun.message import BINDING, HEADER, MessageClass, encode
from stun.responder import IGNORED_IN_REQUEST, Answer, DropReason, Responder
from stun.shape import WITH_FINGERPRINT, Rows, Selection, Shape, table_offsets

T = AttributeType
_ATTRIBUTES_MAX = 12
_SHAPES_MAX = 4
_SHAPE_SIZE_MAX = 256
_FEW = 24
"""Up to so many fingerprints are cheaper checked one by one."""
_PLAIN = np.frombuffer(b"\x00\x01\x00\x00" + MAGIC_COOKIE, np.uint64)[0]
_COOKIE = np.frombuffer(MAGIC_COOKIE, np.uint32)[0]
_BINDING_REQUEST = 0x0001

# What one attribute type does to a row.
_SLOW, _IGNORED, _CHANGE, _FINGERPRINT = range(4)

# A reply's kind: classic, with fingerprint, and change flags / 2.
_CLASSIC = 8
_KINDS = 16

# What a source port says.
_FINE, _NEVER, _MAYBE_OURS = range(3)


@dataclass
class Segment:
    """Replies `start` to `stop` of the reply batch leave from endpoint `at`."""

    at: int
    start: int
    stop: int


@dataclass
class Outcome:
    """What became of one batch."""

    segments: list[Segment] = field(default_factory=list)
    slow: Rows = field(default_factory=lambda: np.empty(0, np.intp))
    """Rows that need the responder."""
    answered: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    drops: list[tuple[DropReason, int]] = field(default_factory=list)
    changes: list[tuple[int, int]] = field(default_factory=list)
    """(flags, how many) of the CHANGE-REQUESTs that were followed."""
    rows: Selection = field(default_factory=lambda: np.empty(0, np.intp))
    """Answered rows and, beside them, the kinds of their replies."""
    kinds: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    shape: Shape | None = None
    """A shape that was not known before."""
    plain: bool = False
    """Every request was a header and nothing else."""


@dataclass(frozen=True)
class Template:
    """One kind of reply. `tables` (varying bytes * 256,) and `constant` give its fingerprint."""

    reply: NDArray[np.uint8]
    length: int
    at: int
    mapped: int | None
    xored: int | None
    tables: NDArray[np.uint32] | None = None
    constant: np.uint32 = field(default_factory=lambda: np.uint32(0))


class FastPath:
    """The vectorised answerer of one responder; it has no state but templates."""

    def __init__(self, responder: Responder, reply_size: int) -> None:
        """`reply_size`: room of one reply slot; longer replies are left to the responder."""
        self._responder = responder
        self._reply_size = reply_size
        self.endpoints = responder.endpoints
        self.enabled = responder.authenticator is None
        policy = responder.policy
        self._classic = policy.classic != "off" and not policy.minimal
        self._modern_effect = np.full(65536, _SLOW, np.uint8)
        self._modern_effect[0x8000:] = _IGNORED
        # After an integrity attribute the rest of a message counts for nothing: left to the responder.
        harmless = IGNORED_IN_REQUEST - {T.MESSAGE_INTEGRITY, T.MESSAGE_INTEGRITY_SHA256, T.USERHASH}
        self._modern_effect[sorted(harmless)] = _IGNORED
        self._modern_effect[T.FINGERPRINT] = _FINGERPRINT
        self._classic_effect = np.full(65536, _SLOW, np.uint8)
        self._classic_effect[0x8000:] = _IGNORED
        self._classic_effect[sorted(classic.IGNORED)] = _IGNORED
        if not policy.minimal:
            self._modern_effect[T.CHANGE_REQUEST] = _CHANGE
            self._classic_effect[T.CHANGE_REQUEST] = _CHANGE
        self._port_says = np.zeros(65536, np.uint8)
        self._own_rows: dict[bool, NDArray[np.uint8]] = {}
        for ipv6 in (False, True):
            own = [a for a in sorted(responder.screen.own) if (":" in a.host) == ipv6]
            self._port_says[[a.port for a in own]] = _MAYBE_OURS
            raw = b"".join(to_row(a) for a in own)
            self._own_rows[ipv6] = np.frombuffer(raw, np.uint8).reshape(len(own), SOCKADDR_ROW)
        self._port_says[sorted(REFLECTION_PORTS)] = _NEVER
        # Ports come in network order: address the table by them as they are loaded.
        self._port_says = self._port_says[np.arange(65536, dtype=np.uint16).byteswap()]
        self.ipv6 = [":" in e.local.host for e in responder.endpoints]
        self._first_octet_bad = np.zeros(256, np.bool_)
        self._first_octet_bad[0] = True
        self._first_octet_bad[224:] = True
        self._templates: dict[tuple[int, int], Template | None] = {}
        self._shapes: list[list[Shape]] = [[] for _ in responder.endpoints]

    def answer(self, at: int, batch: Batch, out: Batch, rows: Rows | None = None) -> Outcome:
        """Answer what can be answered of `rows` (default: the whole batch) of a batch that reached endpoint `at`.

        Replies stand in `out` from slot 0, addressed and ready to send. Without room in `out` for all rows,
        ValueError.
        """
        outcome = Outcome()
        if (batch.count if rows is None else len(rows)) > out.slots:
            raise ValueError("the reply batch is smaller than the received one")
        out.count = 0
        ipv6 = self.ipv6[at]
        chosen = self._screen(batch, slice(batch.count) if rows is None else rows, ipv6, outcome)
        if not self.enabled:
            outcome.slow = _numbers(chosen)
            return outcome
        plain = (batch.length[chosen] == HEADER) & (batch.data.view(np.uint64)[chosen, 0] == _PLAIN)
        if plain.all():
            outcome.plain = True
            self._fill(at, batch, out, chosen, np.zeros(len(plain), np.uint8), ipv6, outcome)
            return outcome
        if self._shapes[at] and self._shapes[at][0].fits_all(batch, chosen):
            found, kinds = self._of_one_shape(self._shapes[at][0], batch, chosen, outcome)
        else:
            found, kinds = self._sort(at, batch, _numbers(chosen), plain, ipv6, outcome)
        self._fill(at, batch, out, found, kinds, ipv6, outcome)
        return outcome

    def _screen(self, batch: Batch, rows: Selection, ipv6: bool, outcome: Outcome) -> Selection:
        """Leave out the sources that are never answered (the responder's SourceScreen)."""
        peers = batch.peer
        says = self._port_says[peers.view(np.uint16)[rows, 1]]
        if ipv6:
            halves = peers.view(np.uint64)[rows, 1:3]
            bad = (peers[rows, 8] == 0xFF) | ((halves[:, 0] == 0) & (halves[:, 1] == 0))
        else:
            bad = self._first_octet_bad[peers[rows, 4]]
        if not says.any() and not bad.any():
            return rows
        rows = _numbers(rows)
        bad |= says == _NEVER
        for place in np.flatnonzero(says == _MAYBE_OURS):
            if ipv6:
                same = (self._own_rows[True][:, 2:4] == peers[rows[place], 2:4]).all(axis=1)
                same &= (self._own_rows[True][:, 8:24] == peers[rows[place], 8:24]).all(axis=1)
            else:
                same = (self._own_rows[False][:, 2:8] == peers[rows[place], 2:8]).all(axis=1)
            bad[place] |= same.any()
        if bad.any():
            outcome.drops.append((DropReason.BAD_SOURCE, int(np.count_nonzero(bad))))
        kept: Rows = rows[~bad]
        return kept

    @staticmethod
    def _of_one_shape(
        shape: Shape, batch: Batch, rows: Selection, outcome: Outcome
    ) -> tuple[Selection, NDArray[np.uint8]]:
        """Give the rows to answer and the kinds of their replies, where one kind of client fills the batch."""
        right = shape.right(batch, rows)
        if right is not None and not right.all():
            outcome.drops.append((DropReason.BAD_FINGERPRINT, int(np.count_nonzero(~right))))
            rows = _numbers(rows)[right]
        count = rows.stop if isinstance(rows, slice) else len(rows)
        return rows, np.full(count, shape.kind, np.uint8)

    def _sort(
        self, at: int, batch: Batch, rows: Rows, plain: NDArray[np.bool_], ipv6: bool, outcome: Outcome
    ) -> tuple[Rows, NDArray[np.uint8]]:
        """Give the rows to answer here and the kind of each reply: plain ones, shapes seen lately, then the rest."""
        found = [rows[plain]]
        kinds = [np.zeros(len(found[0]), np.uint8)]
        rest = rows[~plain]
        for shape in self._shapes[at]:
            same = shape.fits(batch, rest)
            if same.any():
                found.append(rest[same])
                kinds.append(np.full(len(found[-1]), shape.kind, np.uint8))
                rest = rest[~same]
                if not len(rest):
                    break
        if len(rest):
            walked, walked_kinds = self._walk_new(at, batch, rest, ipv6, outcome)
            found.append(walked)
            kinds.append(walked_kinds)
        answered, reply_kinds = np.concatenate(found), np.concatenate(kinds)
        bad = _bad_fingerprints(batch, answered, reply_kinds)
        if bad is None:
            return answered, reply_kinds
        outcome.drops.append((DropReason.BAD_FINGERPRINT, int(np.count_nonzero(bad))))
        return answered[~bad], reply_kinds[~bad]

    def _walk_new(
        self, at: int, batch: Batch, rows: Rows, ipv6: bool, outcome: Outcome
    ) -> tuple[Rows, NDArray[np.uint8]]:
        """Walk the attributes of rows of unknown shape, and remember one of the shapes."""
        kinds = np.zeros(len(rows), np.uint8)
        halves = batch.data.view(">u2")
        length = batch.length[rows].astype(np.intp)
        declared = halves[rows, 1].astype(np.intp)
        fast = (
            (halves[rows, 0] == _BINDING_REQUEST)
            & (length == declared + HEADER)
            & (declared & 3 == 0)
            & ~batch.truncated[rows]
        )
        is_classic = batch.data.view(np.uint32)[rows, 1] != _COOKIE
        if self._classic and not ipv6:
            kinds[is_classic] = _CLASSIC
        else:
            fast &= ~is_classic
        self._walk(at, batch, rows, kinds, length, fast)
        outcome.slow = rows[~fast]
        modern = np.flatnonzero(fast & ~is_classic & (length <= _SHAPE_SIZE_MAX))
        if len(modern):
            shapes = self._shapes[at]
            outcome.shape = Shape.of(batch.payload(int(rows[modern[0]])), int(kinds[modern[0]]))
            shapes.insert(0, outcome.shape)
            del shapes[_SHAPES_MAX:]
        return rows[fast], kinds[fast]

    def _walk(
        self,
        at: int,
        batch: Batch,
        rows: Rows,
        kinds: NDArray[np.uint8],
        length: Rows,
        fast: NDArray[np.bool_],
    ) -> None:
        """Clear `fast` where an attribute needs the responder; note flags and fingerprints in `kinds`.

        Positions count 16-bit words. Each turn of the loop is one attribute further, for all rows that have one.
        """
        halves = batch.data.view(">u2")
        end = length >> 1
        position = np.full(len(rows), HEADER >> 1, np.intp)
        changed = np.zeros(len(rows), np.bool_)
        active = np.flatnonzero(fast & (end > position))
        for _ in range(_ATTRIBUTES_MAX):
            if not len(active):
                break
            here, slots = position[active], rows[active]
            kind = halves[slots, here]
            size = halves[slots, here + 1].astype(np.intp)
            following = here + 2 + ((size + 3) >> 2 << 1)
            classic_row = kinds[active] >= _CLASSIC
            effect = np.where(classic_row, self._classic_effect[kind], self._modern_effect[kind])
            good = (effect != _SLOW) & (following <= end[active])
            is_change = good & (effect == _CHANGE)
            if is_change.any():
                good &= ~is_change | ((size == 4) & ~changed[active])
                places = np.flatnonzero(is_change & good)
                flags = halves[slots[places], here[places] + 3].astype(np.uint8) & CHANGE_MASK
                kinds[active[places]] |= flags >> 1
                changed[active[places]] = True
            is_fingerprint = good & (effect == _FINGERPRINT)
            if is_fingerprint.any():
                last = (size == 4) & (following == end[active]) & (length[active] <= LENGTH_MAX)
                good &= ~is_fingerprint | last
                kinds[active[is_fingerprint & last]] |= WITH_FINGERPRINT
            fast[active[~good]] = False
            position[active] = following
            active = active[good & (following < end[active])]
        fast[active] = False
        self._refuse_changes(at, kinds, changed, fast)

    def _refuse_changes(
        self, at: int, kinds: NDArray[np.uint8], changed: NDArray[np.bool_], fast: NDArray[np.bool_]
    ) -> None:
        """Leave to the responder what it will refuse: CHANGE-REQUEST where there is nothing to change to."""
        policy = self._responder.policy
        if self._responder.endpoints[at].changed is None:
            fast &= ~changed if policy.strict_change_request else (kinds & 3) == 0
        elif policy.classic == "plain":
            refused = changed if policy.strict_change_request else (kinds & 3) != 0
            fast &= ~(refused & (kinds >= _CLASSIC))

    def _fill(
        self,
        at: int,
        batch: Batch,
        out: Batch,
        rows: Selection,
        kinds: NDArray[np.uint8],
        ipv6: bool,
        outcome: Outcome,
    ) -> None:
        """Write the replies, one kind after the other."""
        outcome.rows, outcome.kinds = rows, kinds
        if not len(kinds):
            return
        if (kinds == kinds[0]).all():
            present = [int(kinds[0])]
        else:
            present = np.bincount(kinds, minlength=_KINDS).nonzero()[0].tolist()
        left_over: list[Rows] = []
        start = 0
        for kind in present:
            members = rows if len(present) == 1 else _numbers(rows)[kinds == kind]
            count = len(kinds) if len(present) == 1 else len(_numbers(members))
            template = self.template(at, kind)
            if template is None:
                left_over.append(_numbers(members))
                continue
            stop = start + count
            self._write(template, batch, out, members, start, stop, ipv6)
            outcome.bytes_in += HEADER * count if outcome.plain else int(batch.length[members].sum())
            outcome.bytes_out += template.length * count
            flags = (kind & 3) << 1
            if flags:
                outcome.changes.append((flags, count))
            if outcome.segments and outcome.segments[-1].at == template.at:
                outcome.segments[-1].stop = stop
            else:
                outcome.segments.append(Segment(template.at, start, stop))
            start = stop
        out.count = outcome.answered = start
        if left_over:
            outcome.slow = np.concatenate((outcome.slow, *left_over))
            fits = np.isin(_numbers(rows), outcome.slow, invert=True)
            outcome.rows, outcome.kinds = _numbers(rows)[fits], kinds[fits]

    @staticmethod
    def _write(
        template: Template, batch: Batch, out: Batch, rows: Selection, start: int, stop: int, ipv6: bool
    ) -> None:
        peers = batch.peer[rows]
        out.peer[start:stop] = peers
        out.peer_length[start:stop] = batch.peer_length[rows]
        out.length[start:stop] = template.length
        reply = out.data[start:stop, : template.length]
        reply[:] = template.reply
        identity = batch.data[rows, 4:20]
        reply[:, 4:20] = identity
        if ipv6:
            address = peers[:, [2, 3, *range(8, 24)]]
        else:
            address = peers[:, 2:8]
        width = address.shape[1]
        if template.mapped is not None:
            reply[:, template.mapped : template.mapped + width] = address
        if template.xored is not None:
            xored = reply[:, template.xored : template.xored + width]
            xored[:, :6] = address[:, :6] ^ _COOKIE_MASK
            if ipv6:
                xored[:, 6:] = address[:, 6:] ^ identity[:, 4:]
        if template.tables is not None:
            varying = np.concatenate((identity[:, 4:], address), axis=1)
            gathered = template.tables.take(varying + table_offsets(varying.shape[1]))
            crc = np.bitwise_xor.reduce(gathered, axis=1) ^ template.constant
            reply[:, template.length - 4 :] = crc.astype(">u4").view(np.uint8).reshape(-1, 4)

    def template(self, at: int, kind: int) -> Template | None:
        """The template of one kind of reply from one endpoint; None when it is too long for a slot."""
        key = (at, kind)
        if key not in self._templates:
            self._templates[key] = self._make_template(at, kind)
        return self._templates[key]

    def _make_template(self, at: int, kind: int) -> Template | None:
        is_classic = kind >= _CLASSIC
        ipv6 = ":" in self._responder.endpoints[at].local.host
        nobody = TransportAddress("::" if ipv6 else "0.0.0.0", 0)
        flags = (kind & 3) << 1
        attributes = [(int(T.CHANGE_REQUEST), bytes([0, 0, 0, flags]))] if flags else []
        request = encode(BINDING, MessageClass.REQUEST, bytes(16 if is_classic else 12), attributes)
        answer = self._responder.judge(request, at, nobody)
        if not isinstance(answer, Answer) or answer.code != 0:
            raise ValueError(f"the responder refuses what the fast path takes: {answer}")
        reply = answer.data
        minimal = self._responder.policy.minimal
        mapped = None if minimal else HEADER + 6
        step = 24 if ipv6 else 12
        xored = None if is_classic else HEADER + 6 + (0 if minimal else step)
        tables, constant = None, np.uint32(0)
        if kind & WITH_FINGERPRINT and not is_classic:
            counted = reply[:2] + (len(reply) - HEADER + 8).to_bytes(2, "big") + reply[4:]
            constant = np.uint32(zlib.crc32(counted) ^ FINGERPRINT_XOR)
            tables = _varying_tables(len(reply), mapped, xored, ipv6)
            reply = counted + b"\x80\x28\x00\x04" + bytes(4)
        if len(reply) > self._reply_size or len(reply) > LENGTH_MAX:
            return None
        row = np.frombuffer(reply, np.uint8)
        return Template(row, len(reply), answer.at, mapped, xored, tables, constant)


def _numbers(selection: Selection) -> Rows:
    return np.arange(selection.stop) if isinstance(selection, slice) else selection


def _bad_fingerprints(batch: Batch, rows: Rows, kinds: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Which rows have a wrong FINGERPRINT; None when there is none."""
    candidates = np.flatnonzero(kinds & WITH_FINGERPRINT)
    bad = np.zeros(len(rows), np.bool_)
    if len(candidates) <= _FEW:
        for place in candidates.tolist():
            message = batch.payload(int(rows[place]))
            bad[place] = int.from_bytes(message[-4:], "big") != zlib.crc32(message[:-8]) ^ FINGERPRINT_XOR
        return bad if bad.any() else None
    sizes = batch.length[rows[candidates]]
    for size in np.flatnonzero(np.bincount(sizes)).tolist():
        members = candidates[sizes == size]
        slots = rows[members]
        given = batch.data.view(">u4")[slots, (size >> 2) - 1]
        bad[members] = given != crc32_rows(batch.data[slots, : size - 8]) ^ np.uint32(FINGERPRINT_XOR)
    return bad if bad.any() else None


_COOKIE_MASK = np.frombuffer(MAGIC_COOKIE[:2] + MAGIC_COOKIE, np.uint8)
"""Port and first four octets of an address are masked with the cookie's."""


def _varying_tables(length: int, mapped: int | None, xored: int | None, ipv6: bool) -> NDArray[np.uint32]:
    """One CRC table per varying byte of the request: it acts on the reply wherever the reply repeats it.

    The varying bytes are the transaction id (12), then port (2) and address (4 or 16).
    """
    far = distances()
    width = 18 if ipv6 else 6
    tables = np.zeros((12 + width, 256), np.uint32)
    for i in range(12):
        tables[i] = far[length - 1 - (8 + i)]
        if ipv6 and xored is not None:
            tables[i] ^= far[length - 1 - (xored + 6 + i)]
    for i in range(width):
        for start in (mapped, xored):
            if start is not None:
                tables[12 + i] ^= far[length - 1 - (start + i)]
    return tables.ravel()
