"""The manifests, rendered by kubectl and held against Kubernetes' schemas and its "restricted" profile."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("laptop", "sgx", "simulated")
KUBERNETES = "1.31"

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@cache
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """All objects of an overlay."""
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(yaml.safe_load_all(text))


def of_kind(overlay: str, *kinds: str) -> dict[str, dict[str, Any]]:
    """Objects by name."""
    return {each["metadata"]["name"]: each for each in rendered(overlay) if each["kind"] in kinds}


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """What runs: the pods of each workload."""
    found = of_kind(overlay, "Deployment", "StatefulSet")
    return {name: each["spec"]["template"]["spec"] for name, each in found.items()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_fits_its_schema(overlay: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for each in rendered(overlay):
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_there_is_a_workload_for_each_service(overlay: str) -> None:
    own = {"redis"} if overlay != "sgx" else set()
    assert pods(overlay).keys() == {"gateway", "provisioner", "verifier", "worker"} | own
    assert of_kind(overlay, "PodDisruptionBudget").keys() == pods(overlay).keys()
    assert of_kind(overlay, "NetworkPolicy").keys() == pods(overlay).keys() | {"nothing-else"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_restricted(overlay: str) -> None:
    for pod in pods(overlay).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["initContainers"], *pod["containers"]):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


@pytest.mark.attack("J11")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_simulator_is_where_it_was_asked_for_and_nowhere_else(overlay: str) -> None:
    text = yaml.safe_dump_all(rendered(overlay))
    assert ("simulator" in text) == (overlay != "sgx")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_is_given_its_own_secret_alone(overlay: str) -> None:
    for name, pod in pods(overlay).items():
        secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        assert secrets == [f"{name}-mesh"]


ARROWS = {
    ("gateway", "verifier", 8442),
    ("gateway", "worker", 8450),
    ("gateway", "redis", 8446),
    ("verifier", "redis", 8446),
    ("provisioner", "verifier", 8442),
    ("worker", "verifier", 8442),
    ("worker", "provisioner", 8444),
}


def arrows(side: str, peer: str) -> set[tuple[str, str, int]]:
    """Who may reach whom, as `ingress` or `egress` rules have it."""
    found = set()
    for name, policy in of_kind("simulated", "NetworkPolicy").items():
        for rule in policy["spec"].get(side, ()):
            for other in rule.get(peer, ()):
                if "podSelector" in other:
                    who = other["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
                    pair = (who, name) if side == "ingress" else (name, who)
                    found |= {(*pair, port["port"]) for port in rule["ports"]}
    return found


def test_only_the_arrows_of_the_mesh_are_allowed() -> None:
    assert arrows("ingress", "from") == ARROWS
    assert arrows("egress", "to") == ARROWS


def test_what_is_not_allowed_is_forbidden() -> None:
    everything = of_kind("sgx", "NetworkPolicy")["nothing-else"]["spec"]
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_probes_ask_whether_it_goes_on_and_not_whether_a_port_is_open() -> None:
    for name in ("gateway", "provisioner", "verifier"):
        (container,) = pods("simulated")[name]["containers"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
        assert container["livenessProbe"]["httpGet"]["path"] == "/live"


def test_variables_are_settings_that_exist() -> None:
    for name, pod in pods("simulated").items():
        (container,) = pod["containers"]
        for variable in container.get("env", ()):
            if variable["name"].startswith("CLOISTER_"):
                _, service, *field = variable["name"].lower().split("_")
                assert service == name
                settings = (ROOT / "services" / "cloister" / service / "settings.py").read_text()
                assert re.search(rf"^    (?:{'_'.join(field)}|{field[0]}):", settings, re.M), variable["name"]
