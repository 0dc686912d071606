"""SIPp plays the scenarios of `scenarios/`: callers and callees that behave as a test wants.

Each file can be played by hand, too: `sipp 203.0.113.1:5060 -sf caller.xml -s 9000 -m 1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.natlab.laboratory import Host
from tests.natlab.namespaces import LaboratoryFault, Program

SCENARIOS = Path(__file__).parent / "scenarios"


@dataclass
class Player:
    """One run of one scenario in a host's namespace."""

    scenario: str
    program: Program

    def finish(self, seconds: float = 18.0) -> None:
        """Wait for the end; raises LaboratoryFault when the scenario did not go as written."""
        status = self.program.process.wait(seconds)
        if status != 0:
            raise LaboratoryFault(f"{self.scenario} ended with {status}:\n{self.program.output()[-4000:]}")


def play(
    host: Host, scenario: str, directory: Path, *, target: str | None = None, service: str = "9000", **keys: str
) -> Player:
    """Start one call as caller or, without a `target`, as callee; a callee listens when this returns.

    `service` is the user that is called, `keys` are what else the file leaves open.
    """
    directory.mkdir(parents=True, exist_ok=True)
    given = [text for key, value in keys.items() for text in ("-key", key, value)]
    program = host.namespace.start(
        "sipp", *([target] if target else []), "-sf", SCENARIOS / f"{scenario}.xml", "-i", host.address, "-p", "5060",
        "-s", service, "-m", "1", "-nostdin", "-timeout", "15", "-timeout_error", *given,
        name=f"sipp-{scenario}", directory=directory,
    )  # fmt: skip
    if target is None:
        program.wait_listening("udp", 5060)
    return Player(scenario, program)
