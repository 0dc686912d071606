"""Asserted identities at the edge of trust (RFC 3325): phones assert nothing, and learn nothing that is private."""

from __future__ import annotations

from nattrav.sip.edit import Edit

ASSERTED = frozenset(("p-asserted-identity", "remote-party-id"))
_WITHHELD = frozenset(("id", "user"))


def guard_identity(edit: Edit, *, from_phone: bool, to_phone: bool) -> None:
    """Take out what a phone asserts (§5), and towards a phone what its owner wants withheld (§7).

    Between peers that we trust it passes, with its Privacy.
    """
    if from_phone or (to_phone and _is_private(edit)):
        for name in ASSERTED:
            edit.remove(name)


def _is_private(edit: Edit) -> bool:
    for name, line in zip(edit.names, edit.lines, strict=True):
        if name == "privacy" and not _WITHHELD.isdisjoint(line.partition(":")[2].lower().replace(" ", "").split(";")):
            return True
    return False
