"""The end of validity is read from any certificate that openssl makes, and garbage is refused."""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.certificate import not_after


def made(tmp_path: Path, kind: str, days: int) -> str:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt install openssl")
    options = ["-pkeyopt", "ec_paramgen_curve:prime256v1"] if kind == "ec" else ["-pkeyopt", "rsa_keygen_bits:2048"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", kind, *options, "-nodes", "-days", str(days), "-subj", "/CN=edge",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return (tmp_path / "cert.pem").read_text()


def as_openssl_says(path: Path) -> float:
    told = subprocess.run(
        ["openssl", "x509", "-enddate", "-noout", "-in", path], capture_output=True, text=True, check=True
    )
    text = told.stdout.strip().removeprefix("notAfter=")
    return datetime.strptime(text, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC).timestamp()


# Beyond 2049 the time has another form (RFC 5280 section 4.1.2.5).
@pytest.mark.parametrize(("kind", "days"), [("ec", 30), ("rsa", 1), ("ec", 20_000)])
def test_the_end_is_what_openssl_says(tmp_path: Path, kind: str, days: int) -> None:
    assert not_after(made(tmp_path, kind, days)) == as_openssl_says(tmp_path / "cert.pem")


def test_the_first_certificate_of_a_chain_counts(tmp_path: Path) -> None:
    first = made(tmp_path, "ec", 5)
    end = as_openssl_says(tmp_path / "cert.pem")
    assert not_after("a comment\n" + first + made(tmp_path, "ec", 500)) == end


@pytest.mark.parametrize("text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"certificate|structure"):
        not_after(text)


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_value_errors(data: bytes) -> None:
    body = base64.encodebytes(data).decode()
    with contextlib.suppress(ValueError):
        not_after(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
