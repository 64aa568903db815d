"""What KServe's controller makes of an InferenceService: a Deployment and a Service, as v0.20.0 makes them.

Deployment mode Standard, as in pkg/controller/v1beta1/inferenceservice of https://github.com/kserve/kserve: the
runtime's container with the service's name in its environment, the runtime's volumes, the service's own fields of a
pod, labels and annotations of both, a readiness probe where there is none. What the controller would do beyond that
(fetch a model into the pod, put a proxy before the container, merge containers) is not played: a service that asks for
it is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

Object = Mapping[str, Any]

CONTAINER: Final = "kserve-container"
_EXTENSIONS: Final = frozenset(("minReplicas", "maxReplicas", "labels", "annotations", "deploymentStrategy", "model"))
"""Fields of a predictor that are none of its pod's."""
_MODEL: Final = frozenset(("runtime", "modelFormat", "protocolVersion"))
_POD: Final = frozenset(("automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds"))
_STRATEGY: Final = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}


def deployed(objects: Sequence[Object]) -> list[dict[str, Any]]:
    """What KServe adds for each InferenceService among rendered objects."""
    runtimes = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ServingRuntime"}
    services = [each for each in objects if each["kind"] == "InferenceService"]
    return [
        made for each in services for made in _deployed(each, runtimes[each["spec"]["predictor"]["model"]["runtime"]])
    ]


def _deployed(service: Object, runtime: Object) -> list[dict[str, Any]]:
    predictor, spec = service["spec"]["predictor"], runtime["spec"]
    assert service["spec"].keys() == {"predictor"}, "explainers and transformers are not played"
    assert predictor["model"].keys() <= _MODEL, "models that are fetched and merged containers are not played"
    assert predictor.keys() <= _EXTENSIONS | _POD, "other fields of a predictor are not played"
    _check_fits(predictor["model"], spec)
    name = f"{service['metadata']['name']}-predictor"
    metadata = {
        "name": name,
        "namespace": service["metadata"]["namespace"],
        "labels": _labels(service, spec) | {"app": f"isvc.{name}"},
        "annotations": _annotations(service, spec),
    }
    assert metadata["annotations"]["serving.kserve.io/deploymentMode"] == "Standard", "Knative is not played"
    pod = {
        **{field: predictor[field] for field in sorted(_POD & predictor.keys())},
        "containers": [_container(spec, service["metadata"]["name"])],
        "volumes": deepcopy(spec["volumes"]),
    }
    ports = pod["containers"][0]["ports"]
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                # The controller says how many only where no autoscaler does.
                "replicas": predictor["minReplicas"] if _annotations(service, spec)[_SCALER] == "none" else 1,
                "selector": {"matchLabels": {"app": f"isvc.{name}"}},
                "strategy": predictor.get("deploymentStrategy", _STRATEGY),
                "template": {"metadata": {key: metadata[key] for key in ("labels", "annotations")}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "selector": {"app": f"isvc.{name}"},
                "ports": [_service_port(port, first=number == 0) for number, port in enumerate(ports)],
            },
        },
    ]


_SCALER: Final = "serving.kserve.io/autoscalerClass"


def _check_fits(model: Object, runtime: Object) -> None:
    """As the controller does before it takes a runtime that was named."""
    assert not runtime.get("disabled")
    assert model["protocolVersion"] in runtime["protocolVersions"]
    wanted = model["modelFormat"]
    assert any(
        each["name"] == wanted["name"] and wanted.get("version") in (None, each.get("version"))
        for each in runtime["supportedModelFormats"]
    )


def _labels(service: Object, runtime: Object) -> dict[str, str]:
    return {
        **runtime.get("labels", {}),
        **service["metadata"].get("labels", {}),
        **service["spec"]["predictor"].get("labels", {}),
        "serving.kserve.io/inferenceservice": service["metadata"]["name"],
        "component": "predictor",
    }


def _annotations(service: Object, runtime: Object) -> dict[str, str]:
    return {
        **runtime.get("annotations", {}),
        **service["metadata"].get("annotations", {}),
        **service["spec"]["predictor"].get("annotations", {}),
    }


def _container(runtime: Object, service: str) -> dict[str, Any]:
    (found,) = (each for each in runtime["containers"] if each["name"] == CONTAINER)
    container: dict[str, Any] = deepcopy(found)
    assert "{{" not in str(container), "templates are not played"
    container.setdefault("env", []).append({"name": "INFERENCE_SERVICE_NAME", "value": service})
    container.setdefault("readinessProbe", {"tcpSocket": {"port": container["ports"][0]["containerPort"]}})
    return container


def _service_port(port: Object, *, first: bool) -> dict[str, Any]:
    number = port["containerPort"]
    made = {"name": port["name"], "port": 80 if first else number, "targetPort": number, "protocol": "TCP"}
    in_clear = "grpc" in port["name"] or "h2c" in port["name"]
    return made | ({"appProtocol": "kubernetes.io/h2c"} if in_clear else {})
