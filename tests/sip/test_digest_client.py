from __future__ import annotations

import pytest

from nattrav.sip.digest import Algorithm, Credentials, challenges, ha1
from nattrav.sip.digest_client import answer_challenge

ASK = {"user": "alice", "password": "se cret", "method": "REGISTER", "uri": "sip:example.net", "cnonce": "0a4f113b"}


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_the_server_accepts_what_the_client_answers(algorithm: Algorithm) -> None:
    answer = answer_challenge(challenges("example.net", "n0nce", [algorithm]), **ASK)
    assert answer is not None
    credentials = Credentials.parse(answer)
    assert credentials is not None
    assert credentials.match(ha1(algorithm, "alice", "example.net", "se cret"), "REGISTER")
    assert not credentials.match(ha1(algorithm, "alice", "example.net", "wrong"), "REGISTER")
    assert not credentials.match(ha1(algorithm, "alice", "example.net", "se cret"), "INVITE")


def test_the_first_challenge_that_is_understood_is_answered() -> None:
    offered = ["Basic realm=x", 'Digest realm="r", nonce="n", algorithm=SHA-999', 'Digest realm="r", nonce="n"']
    answer = answer_challenge(offered, **ASK)
    assert answer is not None
    assert "algorithm=MD5" in answer
    assert "qop" not in answer


def test_the_example_of_rfc_7616() -> None:
    challenge = (
        'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    answer = answer_challenge(
        [challenge], user="Mufasa", password="Circle of Life", method="GET", uri="/dir/index.html",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )  # fmt: skip
    assert answer is not None
    assert "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1" in answer


def test_nothing_understood_gives_nothing() -> None:
    assert answer_challenge(["Digest foo", "Basic x"], **ASK) is None
