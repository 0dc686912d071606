"""Digest authentication as a client does it (RFC 7616 §3.4): the answer to a challenge."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nattrav.sip.digest import Algorithm, Credentials, ha1
from nattrav.sip.grammar import QUOTED, TOKEN, quote, unquote

_PARAM = re.compile(rf"({TOKEN})\s*=\s*({QUOTED}|[^\s,\"]+)")


def answer_challenge(
    challenges: Iterable[str], *, user: str, password: str, method: str, uri: str, cnonce: str
) -> str | None:
    """Give the Authorization value for the first challenge with an algorithm known here (RFC 8760 §2.4), or None.

    `challenges` are values of WWW-Authenticate or Proxy-Authenticate. qop `auth` is used when it is offered.
    """
    for challenge in challenges:
        scheme, _, rest = challenge.partition(" ")
        params = {name.lower(): unquote(value) for name, value in _PARAM.findall(rest)}
        if scheme.lower() != "digest" or not {"realm", "nonce"} <= params.keys():
            continue
        try:
            algorithm = Algorithm(params.get("algorithm", "MD5").upper())
        except ValueError:
            continue
        with_qop = "auth" in re.split(r"[,\s]+", params.get("qop", ""))
        credentials = Credentials(
            username=user,
            realm=params["realm"],
            nonce=params["nonce"],
            uri=uri,
            response="",
            algorithm=algorithm,
            qop="auth" if with_qop else None,
            nc=1 if with_qop else None,
            cnonce=cnonce,
            opaque=params.get("opaque", ""),
        )
        response = credentials.expected(ha1(algorithm, user, params["realm"], password), method)
        text = (
            f"Digest username={quote(user)}, realm={quote(params['realm'])}, nonce={quote(params['nonce'])}, "
            f'uri={quote(uri)}, response="{response}", algorithm={algorithm.value}'
        )
        if "opaque" in params:
            text += f", opaque={quote(params['opaque'])}"
        if with_qop:
            text += f", qop=auth, nc=00000001, cnonce={quote(cnonce)}"
        return text
    return None
