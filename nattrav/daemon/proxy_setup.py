"""From the configuration to what a proxy is made of: passwords, hooks, relays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nattrav.config.control import ControlAddress
from nattrav.config.schema import Configuration
from nattrav.config.sip import SipSection, User
from nattrav.control.ng.io.unix import auto_path
from nattrav.daemon.runtime import Runtime, StartRefused
from nattrav.proxy.hooks import NO_HOOKS, Hooks
from nattrav.proxy.io import hooks_file
from nattrav.proxy.io.relays import RelayAddress


def relay_addresses(config: Configuration, directory: Path) -> list[RelayAddress]:
    """Where the configured relays listen."""
    found = []
    for address, weight in config.control.relay_choices():
        path = None
        if address.transport == "unix":
            path = address.path or str(auto_path(directory))
        found.append(RelayAddress(_name(address), weight, address.address, path))
    return found


def _name(address: ControlAddress) -> str:
    return str(address)


def with_passwords(users: Iterable[User]) -> list[User]:
    """Read the password files of [[user]] tables."""
    found = []
    for user in users:
        if user.password_file is not None:
            try:
                password = Path(user.password_file).read_text().strip()
            except OSError as error:
                raise StartRefused(
                    f"[[user]] {user.name}: cannot read {user.password_file}: {error.strerror}; make it readable"
                ) from None
            user = user.model_copy(update={"password": password})
        found.append(user)
    return found


def make_hooks(sip: SipSection, runtime: Runtime) -> Hooks:
    """Load the operator's functions; StartRefused when their file cannot be loaded."""
    if sip.hooks is None:
        return NO_HOOKS
    try:
        functions = hooks_file.load(Path(sip.hooks))
    except hooks_file.HooksUnusable as unusable:
        raise StartRefused(f"[sip] hooks: {unusable}; correct the file or leave the key out") from None
    return Hooks(
        functions,
        hooks_file.ProcessorTime(),
        lambda name, problem: runtime.log.error("hook failed", hook=name, problem=problem),
    )


def warn_of_open_registrar(config: Configuration, runtime: Runtime, users: int) -> None:
    """Say loudly when anybody may register."""
    registrar = config.sip.registrar
    if config.sip.mode == "edge":
        return
    if registrar.authentication == "none":
        runtime.log.warning("anyone may register and call: [sip.registrar] authentication is none")
    elif registrar.authentication == "auto" and not users:
        runtime.log.warning(
            "no users are configured: only phones on private and loopback addresses may register and call; "
            "add [[user]] tables or `nattrav users add`"
        )
