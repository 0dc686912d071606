"""Asks a bundle on another host over its admin listener (`--url`, `--token-file`); read-only."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from nattrav.cli import exit_codes
from nattrav.cli.output import Output

CODES = {400: exit_codes.USAGE, 401: exit_codes.REFUSED, 403: exit_codes.REFUSED, 404: exit_codes.NOT_FOUND}


class RemoteFailure(Exception):
    """The other side did not give a result; `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def ask(out: Output, role: str, verb: str, args: dict[str, Any], limit: float) -> Any:
    """Ask one verb. RemoteFailure with the reason and the exit code."""
    assert out.url is not None
    if not out.url.startswith(("http://", "https://")):
        raise RemoteFailure(f"--url {out.url}: write http://HOST:PORT or https://HOST[:PORT]", exit_codes.USAGE)
    wanted = {name: value for name, value in args.items() if value is not None}
    query = urllib.parse.urlencode({"args": json.dumps(wanted)})
    address = f"{out.url.rstrip('/')}/api/v1/services/{role}/{verb}?{query}"
    request = urllib.request.Request(address, headers=_authorization(out.token_file))
    try:
        with urllib.request.urlopen(request, timeout=limit) as answer:
            return json.load(answer)["result"]
    except urllib.error.HTTPError as error:
        with error:
            raise RemoteFailure(_reason(error), CODES.get(error.code, exit_codes.FAILED)) from None
    except TimeoutError:
        raise RemoteFailure(f"{out.url} did not answer {verb} within {limit:g} s", exit_codes.TIMEOUT) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise RemoteFailure(f"{out.url} cannot be reached: {reason}", exit_codes.UNREACHABLE) from None
    except (ValueError, KeyError, TypeError):
        raise RemoteFailure(f"{out.url} is no nattrav admin listener", exit_codes.UNREACHABLE) from None


def _authorization(token_file: Path | None) -> dict[str, str]:
    if token_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {token_file.read_text().strip()}"}
    except OSError as error:
        raise RemoteFailure(f"--token-file {token_file}: {error.strerror}", exit_codes.USAGE) from None


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read(4096).decode(errors="replace")
    if error.code == 401:
        return "the token is wanting or wrong: name its file with --token-file"
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
