"""Asks a bundle on another host over its admin listener (`--url`, `--token-file`); read-only."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from nattrav.cli import exit_codes
from nattrav.cli.connect import BY_CODE, NoAnswer
from nattrav.cli.output import Output

CODES = {400: exit_codes.USAGE, 401: exit_codes.REFUSED, 403: exit_codes.REFUSED, 404: exit_codes.NOT_FOUND}

SILENCE = 60.0
"""Seconds a stream may send nothing; the listener sends an empty line more often than that."""


def ask(out: Output, role: str, verb: str, args: dict[str, Any], limit: float) -> Any:
    """Ask one verb. NoAnswer with the reason and the exit code."""
    with _answer(out, role, verb, args, limit) as answer:
        return json.load(answer)["result"]


def stream(out: Output, role: str, verb: str, args: dict[str, Any]) -> Iterator[Any]:
    """Ask a streaming verb and give its items as they come. NoAnswer with the reason and the exit code."""
    with _answer(out, role, verb, args, SILENCE) as answer:
        for line in answer:
            if not line.strip():
                continue
            reply = json.loads(line)
            if reply.get("end"):
                return
            if "error" in reply:
                raise NoAnswer(str(reply["error"]["message"]), BY_CODE.get(reply["error"]["code"], exit_codes.FAILED))
            yield reply["item"]
    raise NoAnswer(f"{out.url} hung up", exit_codes.UNREACHABLE)


@contextmanager
def _answer(
    out: Output, role: str, verb: str, args: dict[str, Any], limit: float
) -> Generator[HTTPResponse, None, None]:
    assert out.url is not None
    if not out.url.startswith(("http://", "https://")):
        raise NoAnswer(f"--url {out.url}: write http://HOST:PORT or https://HOST[:PORT]", exit_codes.USAGE)
    wanted = {name: value for name, value in args.items() if value is not None}
    query = urllib.parse.urlencode({"args": json.dumps(wanted)})
    address = f"{out.url.rstrip('/')}/api/v1/services/{role}/{verb}?{query}"
    request = urllib.request.Request(address, headers=_authorization(out.token_file))
    try:
        with urllib.request.urlopen(request, timeout=limit) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        with error:
            raise NoAnswer(_reason(error), CODES.get(error.code, exit_codes.FAILED)) from None
    except TimeoutError:
        raise NoAnswer(f"{out.url} did not answer {verb} within {limit:g} s", exit_codes.TIMEOUT) from None
    except BrokenPipeError:
        raise
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoAnswer(f"{out.url} cannot be reached: {reason}", exit_codes.UNREACHABLE) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoAnswer(f"{out.url} is no nattrav admin listener", exit_codes.UNREACHABLE) from None


def _authorization(token_file: Path | None) -> dict[str, str]:
    if token_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {token_file.read_text().strip()}"}
    except OSError as error:
        raise NoAnswer(f"--token-file {token_file}: {error.strerror}", exit_codes.USAGE) from None


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read(4096).decode(errors="replace")
    if error.code == 401:
        return "the token is wanting or wrong: name its file with --token-file"
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
