"""What the `sgx` overlay gives enclaves: the device, EPC as their manifests have it, aesmd, a place to keep things."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fakes.manifests import CLUSTER, ROOT, Object, rendered
from fakes.pod_security import containers
from fakes.pods import WORKLOADS, pod_spec

ENCLAVES = ("provisioner", "verifier", "worker")
DEVICE, PROVISION, EPC = "sgx.intel.com/enclave", "sgx.intel.com/provision", "sgx.intel.com/epc"
LISTED = r"enclave_size = \{\{ sizing\.memory \| default\(\"(\d+)G\"\)"

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def objects() -> tuple[Object, ...]:
    return rendered(CLUSTER / "overlays" / "sgx")


def pods() -> dict[str, Any]:
    return {each["metadata"]["name"]: pod_spec(each) for each in objects() if each["kind"] in WORKLOADS}


def container(pod: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in containers(pods()[pod]) if each["name"] == name)
    return dict(found)


def mounts(pod: str, name: str) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in container(pod, name)["volumeMounts"]}


def test_enclaves_and_what_quotes_for_them_have_the_device_and_nobody_else() -> None:
    with_device = {
        (name, each["name"])
        for name, pod in pods().items()
        for each in containers(pod)
        if DEVICE in each["resources"]["limits"]
    }
    expected = {(name, each) for name in ENCLAVES for each in (name, "aesmd")}
    assert with_device == expected | {("provisioner", "bring-in"), ("verifier", "bring-in")}


def test_only_aesmd_may_use_the_provisioning_key() -> None:
    for pod in pods().values():
        for each in containers(pod):
            assert (PROVISION in each["resources"]["limits"]) == (each["name"] == "aesmd")


@pytest.mark.parametrize("name", ENCLAVES)
def test_an_enclave_has_the_memory_of_the_cpu_that_its_manifest_says(name: str) -> None:
    template = (ROOT / "services" / "cloister" / "enclave" / "measured" / f"{name}.manifest.template").read_text()
    (size,) = re.findall(LISTED, template)
    assert container(name, name)["resources"]["limits"][EPC] == f"{size}Gi"


@pytest.mark.parametrize("name", ENCLAVES)
def test_what_a_plugin_gives_is_requested_as_it_is_limited(name: str) -> None:
    for each in containers(pods()[name]):
        limits, requests = each["resources"]["limits"], each["resources"]["requests"]
        ours = {key for key in limits if key.startswith("sgx.intel.com/")}
        assert {key: requests.get(key) for key in ours} == {key: limits[key] for key in ours}
        assert (DEVICE in limits) == (EPC in limits)


@pytest.mark.parametrize("name", ENCLAVES)
def test_aesmd_begins_before_the_enclave_and_is_reached_through_memory(name: str) -> None:
    pod = pods()[name]
    first = pod["initContainers"][0]
    assert (first["name"], first["restartPolicy"]) == ("aesmd", "Always")
    assert "/var/run/aesmd/aesm.socket" in first["startupProbe"]["exec"]["command"]
    (volume,) = (each for each in pod["volumes"] if each["name"] == "aesmd")
    assert volume["emptyDir"]["medium"] == "Memory"
    assert mounts(name, name)["/var/run/aesmd"] == mounts(name, "aesmd")["/var/run/aesmd"] == "aesmd"
    annotations = next(each for each in objects() if each["metadata"]["name"] == name and each["kind"] in WORKLOADS)
    assert "sgx.intel.com/quote-provider" not in str(annotations)


@pytest.mark.parametrize("name", ENCLAVES)
def test_an_enclave_runs_where_it_may_write_and_keeps_what_has_to_be_kept(name: str) -> None:
    volume = mounts(name, name)["/place"]
    (workload,) = (each for each in objects() if each["kind"] in WORKLOADS and each["metadata"]["name"] == name)
    claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())]
    assert (volume in claims) == (name != "worker")


@pytest.mark.parametrize("name", ENCLAVES)
def test_no_variable_is_set_that_an_enclave_does_not_hear(name: str) -> None:
    heard = {"worker": {"POD_IP", "CLOISTER_WORKER_LISTEN", "CLOISTER_WORKER_ENDPOINT"}}
    assert {each["name"] for each in container(name, name).get("env", ())} == heard.get(name, set())


@pytest.mark.parametrize("name", ["provisioner", "verifier"])
def test_secrets_are_brought_in_before_the_enclave_begins_and_it_is_not_given_them(name: str) -> None:
    pod = pods()[name]
    assert [each["name"] for each in pod["initContainers"]] == ["aesmd", "place", "bring-in"]
    assert mounts(name, "bring-in")["/secrets"] == "secrets"
    assert mounts(name, "bring-in")["/place"] == mounts(name, name)["/place"]
    assert "/secrets" not in mounts(name, name)
    (volume,) = (each["secret"] for each in pod["volumes"] if each["name"] == "secrets")
    assert volume["optional"] is True


@pytest.mark.attack("J15")
@pytest.mark.parametrize("name", ["provisioner", "verifier"])
def test_secrets_are_handed_to_the_enclave_that_takes_them_in_and_then_gone(name: str, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "mesh" / name).mkdir(parents=True)
    (tmp_path / "mesh" / name / "settings.toml").write_text("")
    script = container(name, "bring-in")["args"][0]
    program = tmp_path / "cloister"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\nfind {tmp_path}/mesh -type f -printf "%m %P\\n"\n')
    program.chmod(0o755)
    for inside, here in (("/opt/cloister/bin/cloister", program), ("/secrets", tmp_path / "secrets")):
        script = script.replace(inside, str(here))
    script = script.replace("/etc/cloister", str(tmp_path / "mesh"))

    def run() -> str:
        return subprocess.run(["/bin/sh", "-euc", script], capture_output=True, text=True, check=True).stdout

    assert run() == "", "nothing is to be brought in"
    assert not (tmp_path / "called").exists()
    for secret in (f"{name}..state.key", f"importer..{name}-import.sig"):
        (tmp_path / "secrets" / secret).write_text("secret")
    seen = set(run().splitlines())
    assert seen >= {f"600 {name}/state.key", f"600 importer/{name}-import.sig"}
    mesh = tmp_path / "mesh"
    assert (tmp_path / "called").read_text().split() == [
        *("enclave", "import", "/enclave", "--at", "/place", "--mesh", str(mesh), "--importer", f"{mesh}/importer")
    ]
    assert [path for path in mesh.rglob("*") if path.is_file()] == [mesh / name / "settings.toml"]


def test_only_pods_of_enclaves_go_to_nodes_that_are_kept_for_them() -> None:
    for name, pod in pods().items():
        tolerated = [each["key"] for each in pod.get("tolerations", ())]
        assert tolerated == ([DEVICE] if name in ENCLAVES else [])
