"""What others' checkers say of the image, the composition, the manifests and the zone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import dns.rdatatype
import dns.zone
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
ZONE = DEPLOY / "dns" / "example.com.zone"
pytestmark = pytest.mark.interop


def checker(name: str) -> str:
    """A program of the virtual environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"needs {name}: make dev")
    return found


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    command = [checker("hadolint"), "--no-color", str(DEPLOY / "docker" / "Dockerfile")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_composition_keeps_to_the_specification() -> None:
    command = [checker("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    file = str(DEPLOY / "compose" / "docker-compose.yml")
    checked = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def manifests() -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is not None:
        command = [kubectl, "kustomize", str(DEPLOY / "kubernetes")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Without kustomize the files as they are, but for its own.
    files = [path for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) if path.stem != "kustomization"]
    return "---\n".join(path.read_text() for path in files)


@pytest.mark.parametrize("release", ["1.29", "1.33"])
def test_the_manifests_keep_to_the_schemas_of_kubernetes(release: str, tmp_path: Path) -> None:
    (tmp_path / "manifests.yaml").write_text(manifests())
    command = [checker("kubernetes-validate"), "--strict", "--kubernetes-version", release]
    file = str(tmp_path / "manifests.yaml")
    checked = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    told = checked.stdout + checked.stderr
    for kind in ("daemonset", "poddisruptionbudget", "namespace"):
        assert f"passed for resource {kind}/nattrav" in told


def test_the_monitor_watches_the_pods_of_the_daemon_set() -> None:
    kubernetes = DEPLOY / "kubernetes"
    monitor, budget, pods = (
        yaml.safe_load((kubernetes / f"{name}.yaml").read_text())["spec"]
        for name in ("podmonitor", "poddisruptionbudget", "daemonset")
    )
    labels = pods["template"]["metadata"]["labels"]
    for one in (monitor, budget, pods):
        assert one["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert (endpoint["targetPort"], endpoint["path"]) == (8080, "/metrics")


def test_bind_loads_the_zone(tmp_path: Path) -> None:
    named = shutil.which("named-checkzone", path="/usr/bin:/usr/sbin")
    if named is None:
        pytest.skip("needs named-checkzone: apt install bind9-utils")
    whole = tmp_path / "zone"
    head = "$TTL 3600\n@ IN SOA ns.example.com. admin.example.com. 1 7200 900 1209600 3600\n@ IN NS ns.example.com.\n"
    whole.write_text(f"{head}ns IN A 203.0.113.53\n{ZONE.read_text()}")
    command = [named, "-i", "full", "-k", "fail", "-m", "fail", "example.com", str(whole)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_zone_leads_from_naptr_to_addresses() -> None:
    zone = dns.zone.from_text(ZONE.read_text(), origin="example.com.", check_origin=False, relativize=False)
    services = {str(name) for name, _ in zone.iterate_rdatasets(dns.rdatatype.SRV)}
    hosts = {str(name) for name, _ in zone.iterate_rdatasets(dns.rdatatype.A)}
    for _, naptr in zone.iterate_rdatasets(dns.rdatatype.NAPTR):
        assert {str(one.replacement) for one in naptr} <= services
    targets = {str(one.target) for _, found in zone.iterate_rdatasets(dns.rdatatype.SRV) for one in found}
    assert targets <= hosts
