from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nattrav.cli import exit_codes
from nattrav.cli.app import run
from nattrav.config.load import Document, load
from nattrav.config.schema import Configuration
from nattrav.daemon.named_files import unusable


def configured(text: str) -> Configuration:
    return load([Document("nattrav.toml", text)]).configuration


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pem")
    certificate, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=edge.example", "-days", "2", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


ABSENT = "No such file or directory"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("[admin]\nlisten = ['192.0.2.1:8080']\ntoken_file = '/absent'", "admin.token_file", ABSENT),
        ("[control]\nshared_key_file = '/absent'", "control.shared_key_file", ABSENT),
        ("[stun]\ntls_certificate = '/absent'\ntls_key = '/absent'", "stun.tls_certificate", ABSENT),
        ("[sip]\nlisten = ['tls:192.0.2.1']\n[sip.tls]\ncertificate = '/absent'\nkey = '/absent'", "sip.tls", "read"),
        ("[sip]\nhooks = '/absent.py'", "sip.hooks", ABSENT),
        ("[sip]\nhooks = '{hooks}'", "sip.hooks", "line 1"),
        ("[[user]]\nname = 'a'\npassword_file = '/absent'", "user[a].password_file", ABSENT),
        ("[hep]\nkey_file = '/absent'", "hep.key_file", ABSENT),
        ("[control]\nshared_key_file = '{short}'", "control.shared_key_file", "less than 16"),
    ],
)
def test_a_file_that_cannot_serve_is_told_with_its_remedy(text: str, key: str, words: str, tmp_path: Path) -> None:
    hooks, short = tmp_path / "hooks.py", tmp_path / "short"
    hooks.write_text("def on_request(:")
    short.write_text("x")
    (problem,) = unusable(configured(text.replace("{hooks}", str(hooks)).replace("{short}", str(short))))
    assert problem.key == key
    assert words in problem.reason
    assert problem.remedy


def test_a_certificate_and_a_key_that_do_not_belong_together_are_told(pem: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pem
    text = f"[sip]\nlisten = ['tls:192.0.2.1']\n[sip.tls]\ncertificate = '{certificate}'\nkey = '{{}}'"
    assert list(unusable(configured(text.format(key)))) == []
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(other), "2048"], check=True, capture_output=True)
    (problem,) = unusable(configured(text.format(other)))
    assert "belong together" in problem.remedy


def test_files_of_services_that_do_not_run_here_are_not_asked_for() -> None:
    assert list(unusable(configured("[node]\nservices = ['relay']\n[sip]\nhooks = '/absent.py'"))) == []


def test_hooks_are_not_executed_by_a_check(tmp_path: Path) -> None:
    hooks = tmp_path / "hooks.py"
    hooks.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    assert list(unusable(configured(f"[sip]\nhooks = '{hooks}'"))) == []
    assert not (tmp_path / "executed").exists()


def test_what_only_the_services_user_may_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "key"
    secret.write_text("x")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, mode: path != secret)
    assert list(unusable(configured(f"[control]\nshared_key_file = '{secret}'"))) == []


def test_check_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "n.toml"
    file.write_text("[control]\nshared_key_file = '/absent'\n")
    assert run(["check", str(file)]) == exit_codes.FAILED
    told = capsys.readouterr().out
    assert "control.shared_key_file: " in told
    assert "1 error" in told
