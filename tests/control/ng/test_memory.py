from __future__ import annotations

from nattrav.control.ng.memory import CallMemory, Shown, counted, replaced_origin
from nattrav.sdp.description import parse
from tests.sdp.samples import PHONE, sdp

DESCRIPTION = parse(sdp(*PHONE))


def test_the_oldest_call_is_forgotten_first() -> None:
    memory = CallMemory(limit=3)
    for number in range(10):
        memory.offer(f"c{number}", "a", DESCRIPTION)
    assert len(memory) == 3
    assert memory.offered("c9", "a")
    assert not memory.offered("c0", "a")


def test_parties_of_one_call_are_bounded() -> None:
    memory = CallMemory()
    for number in range(1000):
        memory.offer("c", f"t{number}", DESCRIPTION)
        memory.shown("c", f"t{number}")
    assert not memory.offered("c", "t999")


def test_an_offer_is_remembered_by_section() -> None:
    memory = CallMemory()
    memory.offer("c", "a", DESCRIPTION)
    (section,) = memory.offered("c", "a")
    assert (section.protocol, section.formats) == ("RTP/AVP", {"0", "101"})
    assert memory.offered("c", "b") == ()
    memory.forget("c")
    assert memory.offered("c", "a") == ()


def test_a_strange_origin_line_is_left_alone() -> None:
    strange = parse(sdp("v=0", "o=what ever"))
    assert replaced_origin(strange, Shown(), frozenset({"origin"}), ("IP4", "192.0.2.1")) == (None, None)


def test_a_version_that_is_no_number_begins_at_one() -> None:
    strange = parse(sdp("v=0", "o=a 1 x IN IP4 192.0.2.9"))
    origin, _ = replaced_origin(strange, Shown(), frozenset({"sdp-version"}), None)
    assert origin == "a 1 1 IN IP4 192.0.2.9"


def test_the_version_rises_once_for_each_changed_text() -> None:
    shown = Shown(version=5)
    origin = "a 1 5 IN IP4 192.0.2.9"
    first = b"v=0\r\no=a 1 5 IN IP4 192.0.2.9\r\ns=-\r\n"
    assert counted(first, origin, shown, always=False) == first
    assert counted(first, origin, shown, always=False) == first
    changed = counted(first + b"a=x\r\n", origin, shown, always=False)
    assert b"o=a 1 6 IN" in changed
    assert shown.version == 6
    assert counted(changed, "a 1 6 IN IP4 192.0.2.9", shown, always=False) == changed
    assert b"o=a 1 7 IN" in counted(changed, "a 1 6 IN IP4 192.0.2.9", shown, always=True)
