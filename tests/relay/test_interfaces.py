"""Which address a leg gets, and where media is never sent."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from relay.effects import Warned
from relay.interfaces import Interfaces, overlapping, usable_target
from relay.session import Refusal, SideOptions
from tests.relay.calls import Call, audio, plane_of
from tests.relay.planes import engine, interfaces


def test_the_first_interface_is_the_default_and_aliases_lead_to_it() -> None:
    found = Interfaces(interfaces("public/203.0.113.5", "core/10.0.0.1").addresses, {"external": "public"})
    assert found.resolve(None) == ("public", None)
    assert found.resolve("core") == ("core", None)
    assert found.resolve("external") == ("public", None)
    assert found.named("external")
    assert not found.named("elsewhere")


def test_internal_and_external_mean_families_where_no_interface_has_these_names() -> None:
    found = interfaces("public/203.0.113.5", "public/2001:db8::5")
    assert found.resolve("internal") == ("public", 4)
    assert found.resolve("external") == ("public", 6)
    assert interfaces("public/203.0.113.5").resolve("external") == ("public", None)


def test_a_missing_family_is_refused_and_a_wrong_alias_does_not_start() -> None:
    found = interfaces("public/203.0.113.5")
    with pytest.raises(Refusal):
        found.address("public", 6)
    with pytest.raises(ValueError, match="is not an interface"):
        Interfaces(found.addresses, {"external": "nowhere"})
    with pytest.raises(ValueError, match="at least one interface"):
        Interfaces([])


def test_an_unknown_interface_is_warned_about_and_the_default_used() -> None:
    relay = engine()
    Call(relay).offer(options=SideOptions(from_interface="nowhere", media_handover=True))
    warnings = [effect.text for effect in relay.take_effects() if isinstance(effect, Warned)]
    assert len(warnings) == 2
    assert "'nowhere', which is not configured" in warnings[0]
    assert "media handover" in warnings[1]


def test_pools_that_could_give_out_the_same_port_are_found() -> None:
    one, other = ("203.0.113.5", 30000, 30999), ("203.0.113.5", 30500, 31500)
    assert overlapping([one, other]) == (one, other)
    assert overlapping([one, ("203.0.113.6", 30500, 31500), ("203.0.113.5", 31000, 31999)]) is None


@pytest.mark.parametrize(
    ("host", "usable"),
    [("198.51.100.1", True), ("192.168.1.1", True), ("127.0.0.1", False), ("224.0.0.1", False), ("fe80::1", False)],
)
def test_media_is_sent_only_to_addresses_that_phones_have(host: str, usable: bool) -> None:
    (local,) = interfaces("public/203.0.113.5").addresses
    assert usable_target(host, local) is usable


class TestACallThatPassesTwice:
    """Behind a 1:1 NAT: what one session shows is the other party of another."""

    SHOWN, BOUND = "198.51.100.7", "10.0.0.5"

    def test_is_sent_to_the_bound_address(self) -> None:
        relay = engine(f"public/{self.BOUND}!{self.SHOWN}")
        (to_second,) = Call(relay, "first").offer()
        assert to_second.rtp is not None
        assert to_second.rtp.host == self.SHOWN
        (to_callee,) = Call(relay, "second").offer(audio(to_second.rtp))
        (to_first,) = Call(relay, "second").answer()
        Call(relay, "first").answer(audio(to_first.rtp))
        plane = plane_of(relay)
        for shown, other in ((to_second, to_first), (to_first, to_second)):
            assert shown.rtp is not None
            assert other.rtp is not None
            settings = plane.at(TransportAddress(self.BOUND, shown.rtp.port))
            assert settings.advertised == TransportAddress(self.BOUND, other.rtp.port)
            assert not settings.nat_wait
            rtcp = plane.at(TransportAddress(self.BOUND, shown.rtp.port + 1))
            assert rtcp.advertised == TransportAddress(self.BOUND, other.rtp.port + 1)
        assert to_callee.rtp is not None

    def test_a_port_nobody_uses_is_somebody_elses(self) -> None:
        found = interfaces(f"public/{self.BOUND}!{self.SHOWN}")
        for port in (30010, 29999, 31000):
            stranger = TransportAddress(self.SHOWN, port)
            assert found.bound(stranger) == stranger

    def test_an_address_that_is_bound_itself_stays(self) -> None:
        relay = engine("public/203.0.113.5")
        (shown,) = Call(relay).offer()
        assert shown.rtp is not None
        assert relay.interfaces.bound(shown.rtp) == shown.rtp
