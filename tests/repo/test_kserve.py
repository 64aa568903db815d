"""The example of KServe: what its controller makes of it is a gateway as any other, and no model comes in in clear."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.kserve import CONTAINER, deployed
from fakes.manifests import CLUSTER, ROOT, parsed, rendered, validate
from fakes.pod_security import objections
from fakes.pods import pod_spec

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

GUIDE = ROOT / "docs" / "guides" / "kserve.md"
EXAMPLE = CLUSTER / "examples" / "kserve"
FETCHED = ("storageUri", "storage", "storageUris")
IN_THE_WAY = ("logger", "batcher", "transformer", "explainer", "workerSpec")


def one(objects: Any, kind: str, name: str) -> dict[str, Any]:
    """The object of that kind and name."""
    (found,) = (each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return dict(found)


def predictor() -> dict[str, Any]:
    """The pod that KServe runs."""
    return pod_spec(one(deployed(rendered(EXAMPLE)), "Deployment", "breast-cancer-predictor"))


def test_all_that_is_applied_and_all_that_kserve_makes_of_it_fits_its_schema() -> None:
    for each in (*rendered(EXAMPLE), *deployed(rendered(EXAMPLE))):
        validate(each)


def test_the_service_of_the_guide_is_one_that_kserve_can_run() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    (service,) = parsed(block)
    validate(service)
    service["metadata"]["namespace"] = "cloister"
    made = deployed([one(rendered(EXAMPLE), "ServingRuntime", "cloister"), service])
    for each in made:
        validate(each)
    assert one(made, "Deployment", "breast-cancer-predictor")["spec"]["replicas"] == 2


def test_the_pod_that_kserve_runs_is_restricted_and_has_nothing_of_the_clusters() -> None:
    assert objections(predictor()) == set()
    assert predictor()["automountServiceAccountToken"] is False
    (container,) = predictor()["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_no_model_comes_into_the_pod_and_nothing_stands_between_it_and_its_clients() -> None:
    service = one(parsed((EXAMPLE / "inferenceservice.yaml").read_text()), "InferenceService", "breast-cancer")
    assert not [key for key in (*FETCHED, *IN_THE_WAY) if f"'{key}'" in str(service["spec"])]
    assert "models" not in {volume["name"] for volume in predictor()["volumes"]}
    assert service["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"


def test_kserve_runs_as_many_as_it_was_told_and_never_none() -> None:
    deployment = one(deployed(rendered(EXAMPLE)), "Deployment", "breast-cancer-predictor")
    assert deployment["spec"]["replicas"] >= 1
    assert deployment["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"


def test_its_pods_are_the_gateways_of_the_mesh_for_service_budget_and_network() -> None:
    objects = rendered(EXAMPLE)
    assert not [each for each in objects if each["kind"] == "Deployment" and each["metadata"]["name"] == "gateway"]
    labels = one(deployed(objects), "Deployment", "breast-cancer-predictor")["spec"]["template"]["metadata"]["labels"]
    service = one(objects, "Service", "gateway")["spec"]
    assert service["selector"].items() <= labels.items()
    assert one(objects, "PodDisruptionBudget", "gateway")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert one(objects, "NetworkPolicy", "gateway")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    opened = {port["containerPort"] for port in predictor()["containers"][0]["ports"]}
    assert {port["targetPort"] for port in service["ports"]} == opened == {8440, 8441}


def test_kserves_own_service_says_of_no_port_that_it_speaks_in_clear() -> None:
    service = one(deployed(rendered(EXAMPLE)), "Service", "breast-cancer-predictor")
    assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == [(80, 8441), (8440, 8440)]
    assert not [port for port in service["spec"]["ports"] if "appProtocol" in port]


def test_it_is_what_the_deployment_runs_that_it_stands_for() -> None:
    usual = pod_spec(one(rendered(CLUSTER / "overlays" / "laptop"), "Deployment", "gateway"))
    (ours,), (theirs,) = predictor()["containers"], usual["containers"]
    named = {"name": "INFERENCE_SERVICE_NAME", "value": "breast-cancer"}
    assert ours["env"] == [*theirs["env"], named]
    assert (ours["image"], ours["resources"]) == (theirs["image"], theirs["resources"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        page = {**theirs[probe]["httpGet"], "port": 9464}
        assert ours[probe] == {**theirs[probe], "httpGet": page}
    (placing,) = usual["initContainers"]
    assert all(line in ours["args"][0] for line in placing["args"][0].splitlines())
    assert ours["name"] == CONTAINER
    assert predictor()["terminationGracePeriodSeconds"] == usual["terminationGracePeriodSeconds"]


def test_a_secret_whose_name_ends_in_a_digest_is_found_by_the_runtime(tmp_path: Path) -> None:
    (tmp_path / "deploy").symlink_to(CLUSTER)
    (tmp_path / "certificate.pem").write_text("of a gateway")
    secret = {"name": "gateway-mesh", "files": ["certificate.pem"]}
    kustomization = {"namespace": "cloister", "resources": ["deploy/examples/kserve"], "secretGenerator": [secret]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (made,) = (each["metadata"]["name"] for each in rendered(tmp_path) if each["kind"] == "Secret")
    assert made.startswith("gateway-mesh-")
    (volume,) = (
        each for each in one(rendered(tmp_path), "ServingRuntime", "cloister")["spec"]["volumes"] if "secret" in each
    )
    assert volume["secret"]["secretName"] == made
