"""SIPp scenarios written as steps: a caller behind a NAT and a gateway that behave as a test wants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.natlab.laboratory import Host
from tests.natlab.namespaces import LaboratoryFault, Program

OFFER = (
    "v=0\no=- 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\nm=audio 40000 RTP/AVP 0\na=rtpmap:0 PCMU/8000\n"
)
_DIALOG = "From: <sip:sipp@[remote_ip]>;tag=[pid]c\nTo: <sip:9000@[remote_ip]>{tag}\nCall-ID: [call_id]\n"
_REQUEST = (
    "Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch];rport\n{routes}"
    + _DIALOG
    + ("CSeq: {number} {method}\nContact: <sip:sipp@[local_ip]:[local_port]>\nMax-Forwards: 70\n")
)


def send(head: str, body: str = "", *, attributes: str = "") -> str:
    """A step that sends a message; the length is filled in."""
    kind = "Content-Type: application/sdp\n" if body else ""
    return f"<send {attributes}><![CDATA[\n{head}{kind}Content-Length: [len]\n\n{body}]]></send>"


def invite(body: str = OFFER) -> str:
    fields = _REQUEST.format(routes="", tag="", number=1, method="INVITE")
    return send(f"INVITE sip:9000@[remote_ip] SIP/2.0\n{fields}", body, attributes='retrans="500"')


def ack(body: str = "") -> str:
    """The ACK of a 2xx, along the route set."""
    return send("ACK [next_url] SIP/2.0\n" + _in_dialog("ACK", 1), body)


def bye() -> str:
    return send("BYE [next_url] SIP/2.0\n" + _in_dialog("BYE", 2), attributes='retrans="500"')


def _in_dialog(method: str, number: int) -> str:
    return _REQUEST.format(routes="[routes]\n", tag="[peer_tag_param]", number=number, method=method)


def respond(status: str, body: str = "", *, fields: str = "", attributes: str = "") -> str:
    """A step of the gateway that answers the last request."""
    copied = "[last_Via:]\n[last_Record-Route:]\n[last_From:]\n[last_To:];tag=[pid]g\n[last_Call-ID:]\n[last_CSeq:]\n"
    contact = "" if "Contact" in fields else "Contact: <sip:[local_ip]:[local_port]>\n"
    return send(f"SIP/2.0 {status}\n{copied}{contact}{fields}", body, attributes=attributes)


def answer_bye() -> str:
    return '<recv request="BYE"/>' + send(
        "SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n"
    )


def expect(status: int, *, optional: bool = False, routes: bool = False) -> str:
    flags = (' optional="true"' if optional else "") + (' rrs="true"' if routes else "")
    return f'<recv response="{status}"{flags}/>'


def await_request(method: str) -> str:
    return f'<recv request="{method}"/>'


def pause(milliseconds: int) -> str:
    return f'<pause milliseconds="{milliseconds}"/>'


@dataclass
class Sipp:
    """One run of one call in a host's namespace."""

    host: Host
    name: str
    directory: Path

    def start(self, *steps: str, target: str | None = None) -> Program:
        """Start the scenario as gateway (no target) or as caller."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / f"{self.name}.xml"
        text = '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="{}">\n{}\n</scenario>\n'
        file.write_text(text.format(self.name, "\n".join(steps)))
        to = (target,) if target else ()
        program = self.host.namespace.start(
            "sipp", *to, "-sf", file, "-i", self.host.address, "-p", "5060", "-m", "1", "-nostdin", "-timeout", "15",
            name=f"sipp-{self.name}", directory=self.directory,
        )  # fmt: skip
        program.wait_listening("udp", 5060)
        return program

    @staticmethod
    def finish(program: Program, seconds: float = 18.0) -> None:
        """Wait for the end; raises LaboratoryFault when the scenario did not go as written."""
        status = program.process.wait(seconds)
        if status != 0:
            raise LaboratoryFault(f"{program.name} ended with {status}:\n{program.output()[-3000:]}")
