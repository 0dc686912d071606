"""SIPp as generator and as far end: its scenarios, and what its statistics say."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from tests.natlab.namespaces import Namespace, Program

# The caller writes the address of a phone behind a NAT into everything, as such a phone does.
_PRIVATE = "10.0.0.5"

CALLER = f"""<?xml version="1.0" encoding="UTF-8"?>
<scenario name="caller behind a NAT">
<send retrans="500" start_rtd="1"><![CDATA[
INVITE sip:9000@[remote_ip] SIP/2.0
Via: SIP/2.0/UDP {_PRIVATE}:5060;branch=[branch];rport
From: <sip:caller[call_number]@[remote_ip]>;tag=[pid]c[call_number]
To: <sip:9000@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:caller[call_number]@{_PRIVATE}:5060>
Max-Forwards: 70
User-Agent: load
Allow: INVITE, ACK, BYE, CANCEL, OPTIONS
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 {_PRIVATE}
s=-
c=IN IP4 {_PRIVATE}
t=0 0
m=audio 40000 RTP/AVP 0 8 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=sendrecv
]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true" rtd="2"/>
<recv response="200" rrs="true" rtd="1"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/UDP {_PRIVATE}:5060;branch=[branch];rport
[routes]
From: <sip:caller[call_number]@[remote_ip]>;tag=[pid]c[call_number]
To: <sip:9000@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Contact: <sip:caller[call_number]@{_PRIVATE}:5060>
Max-Forwards: 70
Content-Length: 0

]]></send>
<pause milliseconds="1000"/>
<send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/UDP {_PRIVATE}:5060;branch=[branch];rport
[routes]
From: <sip:caller[call_number]@[remote_ip]>;tag=[pid]c[call_number]
To: <sip:9000@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Contact: <sip:caller[call_number]@{_PRIVATE}:5060>
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
"""

CALLEE = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="gateway">
<recv request="INVITE"/>
<send><![CDATA[
SIP/2.0 180 Ringing
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=[pid]g[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port]>
Content-Length: 0

]]></send>
<send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=[pid]g[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=gateway 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 40000 RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=sendrecv
]]></send>
<recv request="ACK" crlf="true"/>
<recv request="BYE"/>
<send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
<timewait milliseconds="4000"/>
</scenario>
"""

REGISTRATION = f"""<?xml version="1.0" encoding="UTF-8"?>
<scenario name="registration with digest">
<send retrans="500" start_rtd="1"><![CDATA[
REGISTER sip:[remote_ip] SIP/2.0
Via: SIP/2.0/UDP {_PRIVATE}:5060;branch=[branch];rport
From: <sip:[field0]@[remote_ip]>;tag=[pid]r[call_number]
To: <sip:[field0]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:[field0]@{_PRIVATE}:5060>
Max-Forwards: 70
Expires: 3600
Content-Length: 0

]]></send>
<recv response="401" auth="true"/>
<send retrans="500"><![CDATA[
REGISTER sip:[remote_ip] SIP/2.0
Via: SIP/2.0/UDP {_PRIVATE}:5060;branch=[branch];rport
From: <sip:[field0]@[remote_ip]>;tag=[pid]r[call_number]
To: <sip:[field0]@[remote_ip]>
Call-ID: [call_id]
CSeq: 2 REGISTER
Contact: <sip:[field0]@{_PRIVATE}:5060>
[field1]
Max-Forwards: 70
Expires: 3600
Content-Length: 0

]]></send>
<recv response="200" rtd="1"/>
</scenario>
"""


@dataclass(frozen=True)
class Outcome:
    """What one load did. Times are milliseconds from the first request to its final response."""

    offered: float
    achieved: float
    succeeded: int
    failed: int
    retransmissions: int
    times: list[float]

    def percentile(self, share: float) -> float | None:
        if not self.times:
            return None
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def clean(self) -> bool:
        """Nothing failed, the rate was kept, and hardly a message had to be repeated."""
        total = self.succeeded + self.failed
        return (
            self.failed == 0
            and total > 0
            and self.achieved >= 0.97 * self.offered
            and self.retransmissions <= 0.005 * total
        )


def start_callee(namespace: Namespace, directory: Path, address: str, core: int) -> Program:
    """Start the gateway's side; returns when it listens."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "callee.xml"
    file.write_text(CALLEE)
    program = namespace.start(
        "taskset", "-c", str(core), "sipp", "-sf", file, "-i", address, "-p", "5060", "-nostdin", "-buff_size",
        "4000000", name="sipp-callee", directory=directory,
    )  # fmt: skip
    program.wait_listening("udp", 5060)
    return program


def start_load(
    namespace: Namespace,
    directory: Path,
    scenario: str,
    *,
    address: str,
    target: str,
    rate: float,
    total: int,
    core: int,
    users: Path | None = None,
) -> Program:
    """Start `total` calls or registrations at `rate` per second."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "load.xml"
    file.write_text(scenario)
    for old in directory.glob("load_*"):
        old.unlink()
    options = {
        "-sf": file,
        "-i": address,
        "-p": 5061,
        "-r": f"{rate:g}",
        "-m": total,
        "-l": int(rate * 12) + 100,
        "-stf": directory / "load_stat.csv",
        "-fd": 1,
        "-rtt_freq": 50,
        "-timer_resol": 1,
        "-buff_size": 4000000,
        "-recv_timeout": 20000,
        "-timeout": int(total / rate) + 40,
    } | ({"-inf": users} if users else {})
    flags = [str(part) for option in options.items() for part in option]
    return namespace.start(
        *("taskset", "-c", str(core), "sipp", target, "-nostdin", "-trace_stat", "-trace_rtt"),
        *flags,
        name="sipp-load",
        directory=directory,
    )


def outcome(directory: Path, rate: float) -> Outcome:
    """Read the statistics of a load that has ended."""
    with (directory / "load_stat.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    last = rows[-1]
    rates = [float(row["CallRate(P)"]) for row in rows[2:-1] if float(row["CallRate(P)"]) > 0]
    steady = rates[: max(1, len(rates) - 2)]
    times = []
    for path in directory.glob("load_*_rtt.csv"):
        for line in path.read_text().splitlines()[1:]:
            parts = line.split(";")
            if len(parts) >= 3 and parts[2].strip() == "1":
                times.append(float(parts[1]))
    return Outcome(
        offered=rate,
        achieved=sum(steady) / len(steady) if steady else 0.0,
        succeeded=int(last["SuccessfulCall(C)"]),
        failed=int(last["FailedCall(C)"]),
        retransmissions=int(last["Retransmissions(C)"]),
        times=times,
    )
