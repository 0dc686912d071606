"""What the doctor says of XDP: each interface, what is on it already, two services on one."""

from __future__ import annotations

import pytest

from nattrav.daemon.doctor.findings import Verdict
from nattrav.daemon.doctor.host import ThisHost
from nattrav.net.bpf.dispatcher import PROGRAM
from tests.daemon.doctor.test_examinations import WrittenHost, findings

RELAY = '[relay]\noffload = "{}"\noffload_interfaces = ["eth0"]\n'


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (("virtio_net", ""), "virtio_net"),
        (("", ""), "its driver tells no name"),
        (("veth", ""), "veth: generic"),
        (("bonding", ""), "name those below in offload_interfaces"),
        (("802.1Q VLAN Support", ""), "seen late"),
        (("ixgbe", PROGRAM), "ixgbe; runs our programs"),
    ],
)
@pytest.mark.parametrize("offload", ["off", "auto", "xdp"])
def test_each_interface_is_told_whether_it_is_asked_for_or_not(
    device: tuple[str, str], words: str, offload: str
) -> None:
    found = findings(WrittenHost(devices={"eth0": device}), RELAY.format(offload))["XDP on eth0"]
    assert found.verdict is Verdict.OK
    assert words in found.found


@pytest.mark.parametrize(
    ("offload", "verdict"), [("off", Verdict.UNKNOWN), ("auto", Verdict.WARN), ("xdp", Verdict.FAIL)]
)
def test_a_program_of_somebody_else_is_named(offload: str, verdict: Verdict) -> None:
    host = WrittenHost(devices={"eth0": ("ixgbe", "xdp_balancer")})
    found = findings(host, RELAY.format(offload))["XDP on eth0"]
    assert found.verdict is verdict
    assert "xdp_balancer" in found.found
    assert offload == "off" or "ip link set dev eth0 xdp off" in (found.remedy or "")


def test_without_a_name_the_interfaces_are_those_that_carry_media() -> None:
    host = WrittenHost()
    assert [name for name in findings(host, "") if name.startswith("XDP on")]
    named = findings(host, '[relay]\ninterfaces = ["public/203.0.113.1"]\n')
    assert [name for name in named if name.startswith("XDP on")] == [
        f"XDP on {one.interface}" for one in host.addresses() if one.host == "203.0.113.1"
    ]


@pytest.mark.parametrize(
    ("modes", "told"), [(("auto", "native"), False), (("native", "native"), False), (("generic", "native"), True)]
)
def test_two_services_on_an_interface_need_one_mode(modes: tuple[str, str], told: bool) -> None:
    text = "".join(
        f'[{name}]\noffload = "auto"\noffload_mode = "{mode}"\n'
        for name, mode in zip(("relay", "stun"), modes, strict=True)
    )
    assert ("XDP of two services" in findings(WrittenHost(), text)) is told


def test_this_host_tells_of_loopback_and_of_what_is_not_there() -> None:
    assert ThisHost().xdp_on("lo") == ("", "")
    assert ThisHost().xdp_on("nowhere0") == ("", "")
