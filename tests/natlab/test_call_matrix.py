"""Every kind of NAT calls every kind of NAT: seven by seven calls between registered phones, both directions of audio.

Seven calls run at a time, so that the whole takes less than a minute; the table is printed at the end with `-s`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.natlab import edges, kamailio
from tests.natlab.calls import place
from tests.natlab.capture import Capture
from tests.natlab.laboratory import Laboratory
from tests.natlab.namespaces import LaboratoryFault
from tests.natlab.nats import Kind
from tests.natlab.town import Town
from tests.tones import CALLEE, CALLER

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]

KINDS = [
    Kind.OPEN,
    Kind.FULL_CONE,
    Kind.RESTRICTED_CONE,
    Kind.PORT_RESTRICTED,
    Kind.SYMMETRIC,
    Kind.SYMMETRIC_FIREWALL,
    Kind.CARRIER_GRADE,
]
Verdicts = dict[tuple[Kind, Kind], str]


def caller_of(kind: Kind) -> str:
    return f"from-{kind}"


def callee_of(kind: Kind) -> str:
    return f"to-{kind}"


@pytest.fixture(scope="module")
def verdicts(laboratory: Laboratory, capture: Capture, user_agents: None) -> Verdicts:
    """Place all the calls, in rounds in which every phone has one."""
    names = [name(kind) for kind in KINDS for name in (caller_of, callee_of)]
    edge = edges.choose(laboratory, names)
    if edge.name == "kamailio" and (reason := kamailio.missing()):
        pytest.skip(reason)
    found: Verdicts = {}
    with Town(laboratory, edge, capture) as town:
        for kind in KINDS:
            for name, frequency in ((caller_of(kind), CALLER), (callee_of(kind), CALLEE)):
                town.user_agent(laboratory.subscriber(name, kind).phone, name, frequency)
        for phone in town.phones.values():
            phone.wait_registered()

        def call(pair: tuple[Kind, Kind]) -> tuple[tuple[Kind, Kind], str]:
            caller, callee = town.phones[caller_of(pair[0])], town.phones[callee_of(pair[1])]
            try:
                return pair, place(caller, callee, callee_of(pair[1]), capture).verdict
            except LaboratoryFault as fault:
                return pair, str(fault).splitlines()[0]

        with ThreadPoolExecutor(len(KINDS)) as pool:
            for shift in range(len(KINDS)):
                pairs = [(kind, KINDS[(number + shift) % len(KINDS)]) for number, kind in enumerate(KINDS)]
                found.update(pool.map(call, pairs))
    print("\n" + table(found))
    return found


def table(found: Verdicts) -> str:
    """The matrix, callers down, callees across."""
    lines = ["| caller \\ callee | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(found[row, column] for column in KINDS) + " |" for row in KINDS]
    return "\n".join(lines)


@pytest.mark.parametrize("callee", KINDS)
@pytest.mark.parametrize("caller", KINDS)
def test_both_hear_each_other(verdicts: Verdicts, caller: Kind, callee: Kind) -> None:
    assert verdicts[caller, callee] == "both"
