"""From the configuration to what the relay may take: descriptors first."""

from __future__ import annotations

import pytest

from nattrav.config.relay import RelaySection
from nattrav.daemon import relay_setup
from nattrav.daemon.relay_setup import build_interfaces, build_policy, claim_sockets
from nattrav.daemon.runtime import StartRefused
from relay.io.descriptors import DescriptorBudget
from relay.policy import Policy


def claimed(monkeypatch: pytest.MonkeyPatch, allowed: int, **section: object) -> tuple[Policy, DescriptorBudget]:
    """Claim sockets for a relay on loopback where `allowed` may be open."""
    monkeypatch.setattr(relay_setup, "claim_descriptors", lambda ports: DescriptorBudget(ports, min(ports, allowed)))
    settings = RelaySection.model_validate({"interfaces": ["public/127.0.0.1"], **section})
    return claim_sockets(build_interfaces(settings), build_policy(settings))


def test_with_a_descriptor_for_every_port_there_is_no_further_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, budget = claimed(monkeypatch, 10_000)
    assert budget.enough
    assert policy.limits.sockets == 0


def test_a_range_of_the_operators_own_is_refused_when_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartRefused, match=r"LimitNOFILE=21025 .*max_sessions = 4000"):
        claimed(monkeypatch, 16_000, ports="30000-50000")


def test_an_operator_who_wants_no_more_sessions_than_fit_may_have_a_wider_range(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy, budget = claimed(monkeypatch, 16_000, ports="30000-50000", max_sessions=4000)
    assert not budget.enough
    assert policy.limits.sockets == 16_000
    with pytest.raises(StartRefused):
        claimed(monkeypatch, 16_000, ports="30000-50000", max_sessions=4001)


def test_the_range_nobody_asked_for_is_used_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, _ = claimed(monkeypatch, 3_840)
    assert policy.limits.sockets == 3_840


def test_a_handful_of_descriptors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartRefused, match="ulimit -Hn"):
        claimed(monkeypatch, 768)
