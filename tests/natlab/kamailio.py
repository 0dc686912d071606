"""Kamailio as a NAT edge (registrar, nathelper, rtpengine): the rig of reference and of benchmarks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory
from tests.natlab.namespaces import Namespace, Program

_MODULES = (
    "kex", "tm", "tmx", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "xlog", "sanity", "usrloc", "registrar",
    "nathelper", "rtpengine", "auth", "ctl", "cfg_rpc",
)  # fmt: skip


def missing() -> str | None:
    """Say which program this rig lacks, as a skip reason."""
    for program, package in (("kamailio", "kamailio"), ("rtpengine", "rtpengine-daemon")):
        if shutil.which(program) is None:
            return f"needs {program}: apt install {package}"
    return None


def configuration(
    *,
    listen: tuple[str, ...],
    relay: str,
    upstream: str,
    password: str | None = None,
    children: int = 2,
    ping_interval: int = 10,
    directory: Path,
    flags: str = "replace-origin replace-session-connection ICE=remove",
) -> str:
    """A usual NAT configuration: every request is tested, registrations fixed, every offer and answer anchored.

    `relay` is rtpengine's ng socket, `upstream` the address that takes numbers beginning with 9; with a `password`
    every REGISTER is challenged.
    """
    listens = "\n".join(f"listen={one}" for one in listen)
    challenge = (
        f"""
        if (!pv_auth_check("$fd", "{password}", "0", "1")) {{
            auth_challenge("$fd", "0");
            exit;
        }}
        consume_credentials();"""
        if password
        else ""
    )
    return f"""#!KAMAILIO
debug=1
log_stderror=yes
children={children}
tcp_children=1
socket_workers=1
enable_sctp=no
{listens}
disable_tcp=no
auto_aliases=no
server_header="Server: rig"
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
{"".join(f'loadmodule "{name}.so"{chr(10)}' for name in _MODULES)}
modparam("ctl", "binrpc", "unix:{directory}/ctl.sock")
modparam("rr", "enable_full_lr", 1)
modparam("rr", "append_fromtag", 1)
modparam("usrloc", "db_mode", 0)
modparam("registrar", "max_contacts", 10)
modparam("registrar", "received_avp", "$avp(received)")
modparam("nathelper", "received_avp", "$avp(received)")
modparam("nathelper", "natping_interval", {ping_interval})
modparam("nathelper", "ping_nated_only", 1)
modparam("usrloc", "nat_bflag", 6)
modparam("nathelper", "sipping_bflag", 7)
modparam("nathelper", "sipping_from", "sip:ping@rig.invalid")
modparam("registrar", "method_filtering", 0)
modparam("tm", "fr_timer", 20000)
modparam("tm", "fr_inv_timer", 60000)
modparam("rtpengine", "rtpengine_sock", "{relay}")

request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (!sanity_check("1511", "7")) {{ exit; }}
    force_rport();
    if (nat_uac_test("19")) {{
        if (is_method("REGISTER")) {{ fix_nated_register(); setbflag(6); setbflag(7); }}
        else if (is_first_hop()) {{ set_contact_alias(); }}
        setflag(5);
    }}
    if (is_method("CANCEL")) {{
        if (t_check_trans()) {{
            rtpengine_delete();
            t_relay();
        }}
        exit;
    }}
    if (has_totag()) {{
        if (loose_route()) {{
            if ($du == "") {{ handle_ruri_alias(); }}
            if (is_method("BYE")) {{ rtpengine_delete(); }}
            route(ON);
            exit;
        }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        if (!is_method("ACK")) {{ sl_send_reply("404", "Not here"); }}
        exit;
    }}
    if (is_method("ACK")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
    t_check_trans();
    if (is_method("REGISTER")) {{{challenge}
        save("location");
        exit;
    }}
    if (is_method("OPTIONS") && uri == myself && $rU == $null) {{ sl_send_reply("200", "Alive"); exit; }}
    record_route();
    if ($rU =~ "^9") {{
        $du = "sip:{upstream}";
    }} else if (!lookup("location")) {{
        sl_send_reply("404", "Not Found");
        exit;
    }}
    route(ON);
}}

route[ON] {{
    if (is_method("INVITE|UPDATE|ACK") && has_body("application/sdp")) {{
        if (is_method("ACK")) {{ rtpengine_answer("{flags}"); }} else {{ rtpengine_offer("{flags}"); }}
    }}
    if (is_method("INVITE")) {{ t_on_failure("ENDED"); }}
    t_on_reply("BACK");
    t_relay();
}}

onreply_route[BACK] {{
    if (status =~ "(18[0-9])|(2[0-9][0-9])") {{
        if (has_body("application/sdp")) {{ rtpengine_answer("{flags}"); }}
    }}
    if (nat_uac_test("1")) {{ set_contact_alias(); }}
}}

failure_route[ENDED] {{
    rtpengine_delete();
}}
"""


@dataclass
class KamailioEdge:
    """Kamailio and a relay in the bundle's namespace, as the edge every subscriber registers at.

    `relay_command` starts another relay than rtpengine; it answers ng on 127.0.0.1:2223.
    """

    laboratory: Laboratory
    name: str = "kamailio"
    domain: str = BUNDLE
    relay_command: tuple[str, ...] = ()

    def __enter__(self) -> KamailioEdge:
        namespace = self.laboratory.bundle.namespace
        directory = self.laboratory.directory / "kamailio"
        directory.mkdir(parents=True, exist_ok=True)
        if self.relay_command:
            self.relay = namespace.start(*self.relay_command, name="relay", directory=directory)
            self.relay.wait_listening("udp", 2223)
        else:
            self.relay = start_rtpengine(namespace, directory, interface=BUNDLE)
        self.proxy = start_kamailio(
            namespace,
            directory,
            configuration(
                listen=(f"udp:{BUNDLE}:5060", f"tcp:{BUNDLE}:5060"),
                relay="udp:127.0.0.1:2223",
                upstream=f"{GATEWAY}:5060",
                directory=directory,
            ),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.stop()
        self.relay.stop()

    def log(self) -> str:
        return self.proxy.output() + self.relay.output()

    @property
    def media_ports(self) -> range:
        return range(30000, 40000)


def start_rtpengine(
    namespace: Namespace,
    directory: Path,
    *,
    interface: str,
    ng: str = "127.0.0.1:2223",
    ports: tuple[int, int] = (30000, 39999),
    threads: int = 1,
    prefix: tuple[str, ...] = (),
) -> Program:
    """Start Debian's rtpengine in user space; returns when its ng port is open."""
    directory.mkdir(parents=True, exist_ok=True)
    program = namespace.start(
        *prefix,
        "rtpengine",
        "--foreground",
        "--log-stderr",
        "--log-level=4",
        "--table=-1",
        f"--interface={interface}",
        f"--listen-ng={ng}",
        f"--port-min={ports[0]}",
        f"--port-max={ports[1]}",
        f"--num-threads={threads}",
        f"--pidfile={directory}/rtpengine.pid",
        "--delete-delay=0",
        name="rtpengine",
        directory=directory,
    )
    program.wait_listening("udp", int(ng.rsplit(":", 1)[1]))
    return program


def start_kamailio(
    namespace: Namespace, directory: Path, text: str, *, prefix: tuple[str, ...] = (), shared_megabytes: int = 256
) -> Program:
    """Start Kamailio in the foreground with this configuration; returns when its workers run."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "kamailio.cfg"
    file.write_text(text)
    program = namespace.start(
        *prefix, "kamailio", "-DD", "-E", "-f", file, "-m", str(shared_megabytes), "-M", "32", "-Y", directory,
        name="kamailio", directory=directory,
    )  # fmt: skip
    program.wait_listening("udp", 5060)
    return program
