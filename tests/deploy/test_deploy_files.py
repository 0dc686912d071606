from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from nattrav.config.load import Document, load
from nattrav.config.types import duration

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "nattrav.service"
WORST_EXPOSURE = 2.5


def tool(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs {name}: apt install {package}")
    return found


@pytest.mark.parametrize("example", sorted((DEPLOY / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_examples_are_good_configurations(example: Path) -> None:
    load([Document(example.name, example.read_text())])


def test_the_container_configuration_is_good() -> None:
    load([Document("nattrav.toml", (DEPLOY / "kubernetes" / "nattrav.toml").read_text())])


@pytest.mark.interop
def test_the_units_are_understood_by_systemd(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "systemd")
    unit = tmp_path / "nattrav.service"
    unit.write_text(UNIT.read_text().replace("/opt/nattrav/bin/nattrav", "/bin/true"))
    sockets = tmp_path / "nattrav.socket"
    sockets.write_text(UNIT.with_name("nattrav.socket").read_text())
    alone = tmp_path / "nattrav@relay.service"
    alone.write_text(UNIT.with_name("nattrav@.service").read_text().replace("/opt/nattrav/bin/nattrav", "/bin/true"))
    (tmp_path / "nattrav.service.d").mkdir()
    drop_in = tmp_path / "nattrav.service.d" / "kernel-plane.conf"
    drop_in.write_text(UNIT.with_name("kernel-plane.conf").read_text())
    units = [str(unit), str(sockets), str(alone)]
    checked = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    ours = [line for line in checked.stderr.splitlines() if "nattrav" in line]
    assert (checked.returncode, ours) == (0, [])


@pytest.mark.interop
def test_the_unit_is_hardened() -> None:
    analyze = tool("systemd-analyze", "systemd")
    checked = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(UNIT)], capture_output=True, text=True, check=False
    )
    found = re.search(r"Overall exposure level for nattrav.service: ([\d.]+)", checked.stdout)
    assert found is not None, checked.stderr
    assert float(found[1]) <= WORST_EXPOSURE


def test_a_service_alone_is_hardened_as_the_bundle_is() -> None:
    bundle, alone = (
        UNIT.with_name(name).read_text().partition("User=nattrav")[2]
        for name in ("nattrav.service", "nattrav@.service")
    )
    shared = "# Several services share it.\nRuntimeDirectoryPreserve=yes"
    assert alone.replace(shared, "RuntimeDirectoryPreserve=restart") == bundle


def test_the_unit_allows_what_the_relay_needs() -> None:
    unit = UNIT.read_text()
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    assert settings["Type"] == "notify"
    assert int(settings["LimitNOFILE"]) >= 2 * 10_000 + 4096
    assert "AF_NETLINK" in settings["RestrictAddressFamilies"]
    assert "MemoryDenyWriteExecute" not in settings
    # One letter and a colon each, in one string of the environment, which the kernel limits to 128 KiB.
    assert 2 * int(settings["FileDescriptorStoreMax"]) < 131_071


def test_sysctl_lines_have_no_trailing_comments_and_name_real_keys() -> None:
    for line in (DEPLOY / "sysctl.d" / "90-nattrav.conf").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        key, _, value = line.partition(" = ")
        assert re.fullmatch(r"[\d-]+", value), line
        path = Path("/proc/sys") / key.replace(".", "/")
        # A container sees only its own part of /proc/sys.
        assert path.exists() or key.startswith("net.core."), line


@pytest.mark.lab
def test_firewall_rules_are_accepted_by_nft() -> None:
    nft = tool("nft", "nftables")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    rules = DEPLOY / "nftables" / "nattrav.nft"
    checked = subprocess.run(["unshare", "--net", nft, "-c", "-f", str(rules)], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_the_image_runs_without_root_and_copies_what_exists() -> None:
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    # By number, which runAsNonRoot can check.
    assert users[-1] == "951:951"
    assert "--uid 951 --gid 951" in "".join(lines)
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            assert all((ROOT / name).exists() for name in line.split()[1:-1]), line
    assert any(line.startswith("HEALTHCHECK ") for line in lines)


def test_mounts_of_the_composition_exist() -> None:
    file = DEPLOY / "compose" / "docker-compose.yml"
    mounts = re.findall(r"^\s+- (\.\./[^:]+):", file.read_text(), re.MULTILINE)
    assert len(mounts) >= 5
    for mount in mounts:
        assert (file.parent / mount).exists(), mount


@pytest.mark.interop
def test_the_manifests_build() -> None:
    kubectl = tool("kubectl", "kubernetes-client")
    built = subprocess.run(
        [kubectl, "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    for kind in ("DaemonSet", "ConfigMap", "PodDisruptionBudget", "PodMonitor", "Namespace"):
        assert f"kind: {kind}" in built.stdout


@pytest.mark.lab
@pytest.mark.slow
def test_the_debian_package_installs_runs_and_purges(tmp_path: Path) -> None:
    tool("dpkg-deb", "dpkg")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if subprocess.run(
        ["/usr/bin/python3", "-c", "import ensurepip, venv"], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs Debian's Python with venv: apt install python3-venv")
    debian = DEPLOY / "debian"
    built = subprocess.run(["sh", str(debian / "build.sh"), str(tmp_path)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    package = built.stdout.split()[-1]
    tried = subprocess.run(
        ["sh", str(debian / "try-install.sh"), package], capture_output=True, text=True, timeout=120, check=False
    )
    assert tried.stdout.endswith("installed, ran, removed and purged\n"), tried.stdout + tried.stderr


def test_sysctl_understands_its_file() -> None:
    sysctl = tool("sysctl", "procps")
    file = DEPLOY / "sysctl.d" / "90-nattrav.conf"
    done = subprocess.run([sysctl, "--dry-run", f"--load={file}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert done.stdout.splitlines() == wanted


def test_the_pod_is_drained_before_it_ends_and_never_restarted_for_draining() -> None:
    daemon_set = yaml.safe_load((DEPLOY / "kubernetes" / "daemonset.yaml").read_text())
    pod = daemon_set["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["hostNetwork"]
    assert pod["dnsPolicy"] == "ClusterFirstWithHostNet"
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:2] == ["nattrav", "drain"]
    assert duration(command[command.index("--max") + 1]) < pod["terminationGracePeriodSeconds"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    # What the node keeps is made writable for the pod's user, and the rest of the root is read-only.
    assert container["securityContext"]["readOnlyRootFilesystem"]
    (first,) = pod["initContainers"]
    assert first["command"][-1] == mounts["state"]["mountPath"]
    assert str(pod["securityContext"]["runAsUser"]) in first["command"]
    assert first["image"] == container["image"]


def test_the_composition_gives_the_edge_the_hosts_network_and_no_rights() -> None:
    services = yaml.safe_load((DEPLOY / "compose" / "docker-compose.yml").read_text())["services"]
    edge = services["nattrav"]
    assert (edge["network_mode"], edge["read_only"], edge["cap_drop"]) == ("host", True, ["ALL"])
    assert edge["ulimits"]["nofile"] >= 2 * 10_000 + 4096
    dockerfile = DEPLOY / "compose" / edge["build"]["context"] / edge["build"]["dockerfile"]
    assert dockerfile.exists()
    for name, service in services.items():
        # Whatever is pulled is pinned, so that an upgrade is a decision.
        assert name == "nattrav" or re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name


def test_the_image_installs_what_the_interpreter_and_the_project_ask_for() -> None:
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (python:(\d+)\.(\d+)\S*)", text, re.MULTILINE)
    assert len({base for base, _, _ in bases}) == 1
    assert all((int(major), int(minor)) >= (3, 11) for _, major, minor in bases)
    # Whoever runs the image as it is must find a command, and the user must own what is written.
    assert 'ENTRYPOINT ["nattrav"]' in text
    assert "-o nattrav -g nattrav -m 0750 /var/lib/nattrav /run/nattrav" in text
