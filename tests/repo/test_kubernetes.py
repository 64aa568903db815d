"""The manifests, rendered by kubectl: schemas, the "restricted" profile, the arrows, and what a linter would say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.manifests import CLUSTER, ROOT, parsed, rendered, validate
from fakes.pod_security import CONTAINER_RULES, POD_RULES, containers, objections
from fakes.pods import WORKLOADS, pod_spec

OVERLAYS = ("laptop", "sgx", "simulated")
COMPONENTS = tuple(sorted(path.parent.name for path in (CLUSTER / "components").glob("*/kustomization.yaml")))
SERVICES = {"gateway", "provisioner", "verifier", "worker"}

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def of_overlay(overlay: str) -> tuple[dict[str, Any], ...]:
    """All objects of an overlay."""
    return rendered(CLUSTER / "overlays" / overlay)


def of_kind(overlay: str, *kinds: str) -> dict[str, dict[str, Any]]:
    """Objects by name."""
    return {each["metadata"]["name"]: each for each in of_overlay(overlay) if each["kind"] in kinds}


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """What runs: the pods of each workload."""
    return {name: pod_spec(each) for name, each in of_kind(overlay, *WORKLOADS).items()}


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], ...]]:
    """Each component by itself, over the base."""
    found = {}
    for component in COMPONENTS:
        folder = tmp_path_factory.mktemp(component)
        (folder / "deploy").symlink_to(CLUSTER)
        resources = {"resources": ["deploy/base"], "components": [f"deploy/components/{component}"]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(resources))
        found[component] = rendered(folder)
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_of_an_overlay_fits_its_schema(overlay: str) -> None:
    for each in of_overlay(overlay):
        validate(each)


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_object_of_a_component_fits_its_schema(component: str, composed: Any) -> None:
    for each in composed[component]:
        validate(each)


LOOSE = sorted(path for path in CLUSTER.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("file", LOOSE, ids=lambda path: path.name)
def test_every_object_that_is_applied_by_itself_fits_its_schema_and_is_restricted(file: Path) -> None:
    for each in parsed(file.read_text()):
        validate(each)
        assert objections(pod_spec(each)) == set()


@pytest.mark.parametrize(
    ("path", "value"),
    [("spec.maxReplicas", 3), ("spec.minReplicaCount", "two"), ("spec.triggers.0.metricType", 7), ("sepc", {})],
)
def test_an_object_that_does_not_fit_would_be_noticed(path: str, value: object, composed: Any) -> None:
    (scaled,) = deepcopy([each for each in composed["keda"] if each["kind"] == "ScaledObject"])
    validate(scaled)
    place: Any = scaled
    *parents, name = path.split(".")
    for parent in parents:
        place = place[int(parent) if parent.isdigit() else parent]
    place[name] = value
    with pytest.raises(AssertionError, match="ScaledObject worker"):
        validate(scaled)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_there_is_a_workload_for_each_service(overlay: str) -> None:
    own = {"redis"} if overlay != "sgx" else set()
    assert pods(overlay).keys() == SERVICES | own
    assert of_kind(overlay, "PodDisruptionBudget").keys() == pods(overlay).keys()
    assert of_kind(overlay, "NetworkPolicy").keys() == pods(overlay).keys() | {"nothing-else"}


@pytest.mark.attack("J15")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_of_any_overlay_needs_more_than_a_restricted_namespace_lets_it(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {name: objections(pod) for name, pod in pods(overlay).items()} == {name: set() for name in pods(overlay)}


BROKEN: dict[str, dict[str, Any]] = {
    "host namespaces": {"hostPID": True},
    "hostPath volumes": {"volumes": [{"name": "aesmd", "hostPath": {"path": "/var/run/aesmd"}}]},
    "sysctls": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "volume types": {"volumes": [{"name": "models", "nfs": {"server": "a", "path": "/"}}]},
    "HostProcess": {"own": {"windowsOptions": {"hostProcess": True}}},
    "privileged": {"own": {"privileged": True}},
    "capabilities added": {"own": {"capabilities": {"add": ["SYS_ADMIN"], "drop": ["ALL"]}}},
    "host ports": {"container": {"ports": [{"containerPort": 1, "hostPort": 1}]}},
    "AppArmor": {"own": {"appArmorProfile": {"type": "Unconfined"}}},
    "SELinux": {"own": {"seLinuxOptions": {"type": "spc_t"}}},
    "/proc mount type": {"own": {"procMount": "Unmasked"}},
    "seccomp": {"own": {"seccompProfile": {"type": "Unconfined"}}},
    "privilege escalation": {"own": {"allowPrivilegeEscalation": True}},
    "running as non-root": {"own": {"runAsNonRoot": False}},
    "running as user 0": {"own": {"runAsUser": 0}},
    "capabilities dropped": {"own": {"capabilities": {"drop": ["NET_RAW"]}}},
}


@pytest.mark.parametrize("control", [*POD_RULES, *CONTAINER_RULES])
def test_each_control_of_the_restricted_profile_would_be_missed(control: str) -> None:
    pod = deepcopy(pods("sgx")["worker"])
    broken = deepcopy(BROKEN[control])
    pod["containers"][0]["securityContext"] |= broken.pop("own", {})
    pod["containers"][0] |= broken.pop("container", {})
    pod["securityContext"] |= broken.pop("securityContext", {})
    pod |= broken
    assert {found.partition(":")[0] for found in objections(pod)} == {control} | (
        {"volume types"} if control == "hostPath volumes" else set()
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_held_tighter_than_the_profile(overlay: str) -> None:
    for pod in pods(overlay).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert ":" not in container["image"], "a tag is for an overlay of the operator's"


@pytest.mark.attack("J11")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_simulator_is_where_it_was_asked_for_and_nowhere_else(overlay: str) -> None:
    text = yaml.safe_dump_all(of_overlay(overlay))
    assert ("simulator" in text) == (overlay != "sgx")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_is_given_its_own_secrets_alone(overlay: str) -> None:
    brought_in = ("verifier", "provisioner") if overlay == "sgx" else ()
    for name, pod in pods(overlay).items():
        secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        assert secrets == [f"{name}-mesh", *([f"{name}-secrets"] if name in brought_in else [])]


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


def to_anywhere(overlay: str) -> set[tuple[str, int]]:
    """Who may reach which ports of any address at all, beside those of names."""
    return {
        (name, port["port"])
        for name, policy in of_kind(overlay, "NetworkPolicy").items()
        for rule in policy["spec"].get("egress", ())
        for port in rule["ports"]
        if "to" not in rule and port["port"] != 53
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_but_a_verifier_which_fetches_collateral_reaches_whom_it_likes(overlay: str) -> None:
    assert to_anywhere(overlay) == {("verifier", 443)}


def test_where_quotes_come_from_is_one_address_at_the_port_that_is_asked() -> None:
    quotes = of_kind("sgx", "ConfigMap")["quotes"]["data"]["sgx_default_qcnl.conf"]
    (port,) = re.findall(r'"pccs_url": "https://[^/:]+:(\d+)/', quotes)
    found = {
        (name, rule["ports"][0]["port"], *(other["ipBlock"]["cidr"] for other in rule["to"]))
        for name, policy in of_kind("sgx", "NetworkPolicy").items()
        for rule in policy["spec"].get("egress", ())
        if any("ipBlock" in other for other in rule.get("to", ()))
    }
    assert found == {(name, int(port), "192.0.2.1/32") for name in ("provisioner", "verifier", "worker")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_not_allowed_is_forbidden(overlay: str) -> None:
    everything = of_kind(overlay, "NetworkPolicy")["nothing-else"]["spec"]
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_probes_ask_whether_it_goes_on_and_not_whether_a_port_is_open() -> None:
    for name in ("gateway", "provisioner", "verifier"):
        (container,) = pods("simulated")[name]["containers"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
        assert container["livenessProbe"]["httpGet"]["path"] == "/live"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_variables_are_settings_that_exist(overlay: str) -> None:
    for name, pod in pods(overlay).items():
        (container,) = pod["containers"]
        for variable in container.get("env", ()):
            if variable["name"].startswith("CLOISTER_"):
                _, service, *field = variable["name"].lower().split("_")
                assert service == name
                settings = (ROOT / "services" / "cloister" / service / "settings.py").read_text()
                assert re.search(rf"^    (?:{'_'.join(field)}|{field[0]}):", settings, re.M), variable["name"]


def dangling(objects: tuple[dict[str, Any], ...]) -> Iterator[str]:
    """What objects refer to, and is not there; secrets come from the mesh folder, by their names."""
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    workloads = {each["metadata"]["name"]: each for each in objects if each["kind"] in WORKLOADS}
    for name, each in workloads.items():
        spec = each["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == selected(name)
        pod = pod_spec(each)
        claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = [mount["name"] for container in containers(pod) for mount in container["volumeMounts"]]
        yield from (f"{name}: {mount}" for mount in mounts if mount not in volumes.keys() | claims)
        yield from (f"{name}: {volume} is not mounted" for volume in volumes if volume not in mounts)
        for volume in volumes.values():
            claimed = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claimed and ("PersistentVolumeClaim", claimed) not in there:
                yield f"{name}: claim {claimed}"
            configured = volume.get("configMap", {}).get("name")
            if configured and ("ConfigMap", configured) not in there:
                yield f"{name}: {configured}"
    there_are = {name: pod_spec(each) for name, each in workloads.items()}
    runtimes = [each["spec"] for each in objects if each["kind"] == "ServingRuntime"]  # of which KServe makes pods
    there_are |= {spec["labels"]["app.kubernetes.io/name"]: spec for spec in runtimes}
    for each in objects:
        name, spec = each["metadata"]["name"], each.get("spec", {})
        if each["kind"] in ("Service", "PodDisruptionBudget"):
            chosen = spec["selector"].get("matchLabels", spec["selector"])["app.kubernetes.io/name"]
            if chosen not in there_are:
                yield f"{each['kind']} {name} chooses no pod"
                continue
            ports = {
                port[by] for port in there_are[chosen]["containers"][0]["ports"] for by in ("name", "containerPort")
            }
            yield from (f"{name}: port {each}" for port in spec.get("ports", ()) if port["targetPort"] not in ports)
        if each["kind"] == "StatefulSet" and ("Service", spec["serviceName"]) not in there:
            yield f"{name}: service {spec['serviceName']}"
        if each["kind"] == "ScaledObject" and ("Deployment", spec["scaleTargetRef"]["name"]) not in there:
            yield f"{name}: scales nothing"


@cache
def selected(name: str) -> dict[str, str]:
    """The label that everything finds the pods of a workload by."""
    return {"app.kubernetes.io/name": name}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_of_an_overlay_refers_to_what_is_not_there(overlay: str) -> None:
    assert list(dangling(of_overlay(overlay))) == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_nothing_of_a_component_refers_to_what_is_not_there(component: str, composed: Any) -> None:
    assert list(dangling(composed[component])) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_of_several_may_be_evicted_and_the_last_one_of_a_service_waits(overlay: str) -> None:
    for name, budget in of_kind(overlay, "PodDisruptionBudget").items():
        kept = budget["spec"].get("minAvailable", 0)
        assert kept in (0, 1)
        assert (kept == 1) == (name in ("gateway", "worker"))
