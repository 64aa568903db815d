"""What the guide to Kubernetes says of SGX, as far as it goes without a cluster: built, signed, described, rendered."""

from __future__ import annotations

import base64
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cloister.enclave.measurement import Measurement
from fakes.guide import GUIDES, Reader, Step
from fakes.manifests import CLUSTER, Object, parsed, rendered, validate
from fakes.pod_security import objections
from fakes.pods import WORKLOADS, pod_spec

KINDS = ("worker", "verifier", "provisioner")
PAGE = (GUIDES / "kubernetes.md").read_text().partition("## On SGX")[2].partition("\n## ")[0]
BUILDING, APPLYING = (block.splitlines() for block in re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))

pytestmark = [
    pytest.mark.gramine,
    pytest.mark.skipif(
        shutil.which("gramine-sgx-sign") is None, reason="Gramine is not installed: nothing is measured"
    ),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody has typed all that builds and describes."""
    folder = tmp_path_factory.mktemp("sgx")
    (folder / "deploy").symlink_to(CLUSTER.parent)
    reader = Reader(folder)
    for command in BUILDING:
        reader.does(Step(command, ("...",)))
    return folder


@pytest.fixture(scope="module")
def applied(folder: Path) -> dict[str, tuple[Object, ...]]:
    """What each line that applies something would send to the API server."""
    found = {}
    for line in APPLYING:
        match shlex.split(line.partition("|")[0]):
            case ["kubectl", "apply", "-f", file]:
                found["namespace"] = parsed((folder / file).read_text())
            case ["kubectl", "kustomize", *options, kustomization]:
                # or an annotation would keep each secret a second time, and may have 256 KiB only
                assert line.partition("|")[2].split() == ["kubectl", "apply", "--server-side", "-f", "-"]
                command = ["kubectl", "kustomize", *options, str(folder / kustomization)]
                found["bring-in"] = parsed(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            case ["kubectl", "apply", "-k", kustomization]:
                found["mesh"] = rendered(folder / kustomization)
            case ["kubectl", "wait" | "rollout" | "delete", *_]:
                pass
            case other:
                raise AssertionError(f"nobody has tried {other}")
    return found


def secret(objects: tuple[Object, ...], beginning: str) -> dict[str, bytes]:
    """What a Secret holds, whatever its name ends with."""
    (found,) = (each for each in objects if each["kind"] == "Secret" and each["metadata"]["name"].startswith(beginning))
    return {name: base64.b64decode(content) for name, content in found["data"].items()}


@pytest.mark.parametrize("what", ["namespace", "bring-in", "mesh"])
def test_what_is_applied_fits_its_schema_and_a_restricted_namespace(applied: Any, what: str) -> None:
    for each in applied[what]:
        validate(each)
        if each["kind"] in WORKLOADS:
            assert objections(pod_spec(each)) == set()


def test_what_is_deleted_afterwards_is_what_was_brought_in(applied: Any) -> None:
    (line,) = (line for line in APPLYING if line.startswith("kubectl delete"))
    *_, first, second = shlex.split(line)
    assert {each["metadata"]["name"] for each in applied["bring-in"]} == {first, second}


@pytest.mark.parametrize("kind", ["verifier", "provisioner"])
def test_no_secret_of_an_enclave_is_in_what_stays(applied: Any, kind: str) -> None:
    brought_in = secret(applied["bring-in"], f"{kind}-secrets")
    keys = {name for name in brought_in if name.endswith((".key", "_key.pem"))}
    assert len(keys) > 2
    staying = {content for each in applied["mesh"] if each["kind"] == "Secret" for content in each["data"].values()}
    assert not {name for name in keys if base64.b64encode(brought_in[name]).decode() in staying}


@pytest.mark.parametrize("kind", ["verifier", "provisioner"])
def test_what_brings_them_in_is_what_was_signed_for_it(applied: Any, folder: Path, kind: str) -> None:
    brought_in = secret(applied["bring-in"], f"{kind}-secrets")
    for suffix in (".manifest", ".manifest.sgx", ".sig"):
        name = f"{kind}-import{suffix}"
        assert brought_in[f"importer..{name}"] == (folder / "enclaves" / kind / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_measured_has_the_addresses_of_the_cluster(folder: Path, kind: str) -> None:
    settings = tomllib.loads((folder / "enclaves" / kind / "mesh" / "settings.toml").read_text())
    assert "127.0.0.1" not in str(settings)
    assert {"worker": "verifier:8442", "provisioner": "verifier:8442"}.get(kind) == settings.get("verifier")


@pytest.mark.parametrize("kind", KINDS)
def test_an_enclave_is_given_as_much_of_the_cpu_as_it_was_built_with(applied: Any, folder: Path, kind: str) -> None:
    (pod,) = (
        pod_spec(each) for each in applied["mesh"] if each["kind"] in WORKLOADS and each["metadata"]["name"] == kind
    )
    size = Measurement.read(folder / "enclaves" / kind).options["sgx.enclave_size"]
    assert pod["containers"][0]["resources"]["limits"]["sgx.intel.com/epc"] == f"{size}i"
