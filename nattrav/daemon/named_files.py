"""Tries the files that a configuration names as the services will: certificates, keys, tokens, passwords, hooks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from nattrav.config.problems import Problem
from nattrav.config.schema import Configuration
from nattrav.config.sip_values import parse_listen
from nattrav.daemon.admin_token import read_token
from nattrav.daemon.hep import read_key
from nattrav.daemon.proxy_setup import with_passwords
from nattrav.daemon.proxy_tls import tls_contexts
from nattrav.daemon.runtime import StartRefused
from nattrav.daemon.shared_key import shared_key
from nattrav.daemon.stun_setup import load_certificate


def unusable(configuration: Configuration) -> Iterator[Problem]:
    """Give what would keep a service from starting. Files that only other users may read are passed over."""
    for key, paths, attempt in _attempts(configuration):
        if any(_is_for_others(Path(path)) for path in paths if path):
            continue
        try:
            attempt()
        except StartRefused as refused:
            reason, _, remedy = str(refused).rpartition("; ")
            yield Problem(key, "", reason, remedy)


def _attempts(configuration: Configuration) -> Iterator[tuple[str, list[str | None], Callable[[], object]]]:
    services, sip, stun = configuration.node.services, configuration.sip, configuration.stun
    yield "admin.token_file", [configuration.admin.token_file], partial(read_token, configuration.admin)
    if {"proxy", "relay"} & set(services):
        path = configuration.control.shared_key_file
        yield "control.shared_key_file", [path], partial(shared_key, path)
    if "stun" in services:
        yield "stun.tls_certificate", [stun.tls_certificate, stun.tls_key], partial(load_certificate, stun)
    if "proxy" in services:
        tls = sip.tls
        files = [tls.certificate, tls.key, tls.ca]
        files += [path for one in tls.certificates for path in (one.certificate, one.key)]
        transports = {transport for text in sip.listen for transport in parse_listen(text).transports}
        yield "sip.tls", files, partial(tls_contexts, tls, transports)
        yield "sip.hooks", [sip.hooks], partial(_compile, sip.hooks)
        yield "hep.key_file", [configuration.hep.key_file], partial(read_key, configuration.hep.key_file)
        for user in configuration.user:
            yield f"user[{user.name}].password_file", [user.password_file], partial(with_passwords, [user])


def _is_for_others(path: Path) -> bool:
    """The service's user may read what the one who asks may not; root may read everything."""
    return os.geteuid() != 0 and (
        not os.access(path.parent, os.X_OK) or (path.exists() and not os.access(path, os.R_OK))
    )


def _compile(path: str | None) -> None:
    """Read the operator's functions without executing anything."""
    if path is None:
        return
    try:
        compile(Path(path).read_bytes(), path, "exec")
    except (OSError, SyntaxError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise StartRefused(f"[sip] hooks {path}: {told}; correct the file or leave the key out") from None
