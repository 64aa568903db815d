"""Pods of rendered manifests, run by podman with what Kubernetes would give them; no cluster.

Each pod has an address of its own; names of services stand in its hosts file. Volumes are folders, with owner, group
and modes as a kubelet sets them. Not here: scheduling, network policies, restarts by probes (they are asked by tests).
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.containers import run

NETWORK = ipaddress.ip_network("10.98.217.0/24")
WORKLOADS = ("Deployment", "StatefulSet", "Pod")
_WITHIN_S = 5.0


@dataclass(frozen=True)
class Pod:
    """One pod of a workload."""

    name: str
    address: str
    spec: Mapping[str, Any]


class Node:
    """A machine that runs pods.

    Args:
        folder: For volumes.
        engine: containers.conf.
        objects: All rendered objects; pods have addresses in their order.
        name: Of the network, and what the names of containers begin with.
    """

    def __init__(self, folder: Path, engine: Path, objects: Sequence[Mapping[str, Any]], name: str = "") -> None:
        self._folder = folder
        self._environment = {"CONTAINERS_CONF": str(engine)}
        self._objects = objects
        self._network = name or f"cloister-{os.getpid()}"
        addresses = NETWORK.hosts()
        next(addresses)  # the bridge's own
        workloads = [each for each in objects if each["kind"] in WORKLOADS]
        self.pods = {
            each["metadata"]["name"]: Pod(each["metadata"]["name"], str(next(addresses)), _spec(each))
            for each in workloads
        }

    def begin(self) -> None:
        """Make the network of the pods."""
        self.podman("network", "create", "--subnet", str(NETWORK), self._network)

    def start(self) -> None:
        """Run every pod."""
        self.begin()
        for pod in self.pods.values():
            self.run(pod)

    def stop(self) -> None:
        """Remove all pods and their network."""
        for pod in self.pods.values():
            self.remove(pod)
        self.podman("network", "rm", "--force", self._network)

    def remove(self, pod: Pod, within_s: int = 5) -> None:
        """End a pod, first by asking it to."""
        for container in (*pod.spec.get("initContainers", ()), *pod.spec["containers"]):
            self.podman("rm", "--force", "--ignore", "--time", within_s, self.container(pod, container))

    def run(self, pod: Pod) -> None:
        """Start a pod: volumes, then what prepares it, then what it is for."""
        volumes = {volume["name"]: self._volume(pod, volume) for volume in pod.spec["volumes"]}
        for container in pod.spec.get("initContainers", ()):
            self.podman("run", "--rm", *self._options(pod, container, volumes))
        for container in pod.spec["containers"]:
            self.podman("run", "--detach", *self._options(pod, container, volumes))

    def replace(self, pod: Pod) -> None:
        """Kill a pod and start another in its place: volumes that are claimed stay, those of the pod are new."""
        self.remove(pod, 0)
        self.run(pod)

    def is_ready(self, pod: Pod) -> bool:
        """What a kubelet would say: every container runs, and answers its readiness probe as it should."""
        for container in pod.spec["containers"]:
            state = json.loads(self.podman("inspect", self.container(pod, container)))[0]["State"]
            if not (state["Running"] and _answers(pod, container, container.get("readinessProbe", {}))):
                return False
        return True

    def container(self, pod: Pod, container: Mapping[str, Any]) -> str:
        """The name that podman knows a container by."""
        return f"{self._network}-{pod.name}-{container['name']}"

    def podman(self, *words: object) -> str:
        """Run podman."""
        return run("podman", *words, **self._environment)

    def _options(self, pod: Pod, container: Mapping[str, Any], volumes: Mapping[str, Path]) -> list[str]:
        security = {**pod.spec.get("securityContext", {}), **container["securityContext"]}
        words = ["--name", self.container(pod, container), "--network", self._network, "--ip", pod.address]
        words += ["--user", f"{security['runAsUser']}:{security['runAsGroup']}"]
        words += ["--group-add", str(security["fsGroup"])] if "fsGroup" in security else []
        words += [f"--add-host={other.name}:{other.address}" for other in self.pods.values()]
        words += ["--read-only", "--read-only-tmpfs=false"] if security["readOnlyRootFilesystem"] else []
        words += [] if security["allowPrivilegeEscalation"] else ["--security-opt", "no-new-privileges"]
        words += [f"--cap-drop={capability.lower()}" for capability in security["capabilities"]["drop"]]
        words += ["--ulimit", "nofile=16384:16384", "--ulimit", "nproc=4096:4096"]
        words += [f"--env={name}={value}" for name, value in _variables(pod, container).items()]
        for mount in container["volumeMounts"]:
            mode = ":ro" if mount.get("readOnly") else ""
            words += ["--volume", f"{volumes[mount['name']]}:{mount['mountPath']}{mode}"]
        command = container.get("command", [])
        words += ["--entrypoint", str(command).replace("'", '"')] if command else []
        return [*words, container["image"], *container.get("args", ())]

    def _volume(self, pod: Pod, volume: Mapping[str, Any]) -> Path:
        group = pod.spec.get("securityContext", {}).get("fsGroup", 0)
        place = self._place(pod, volume)
        if "persistentVolumeClaim" not in volume:
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(exist_ok=True)
        if "secret" in volume:
            mode = volume["secret"]["defaultMode"]
            for name, content in self._secret(volume["secret"]["secretName"]).items():
                (place / name).write_bytes(content)
                os.chown(place / name, 0, group)
                (place / name).chmod(mode)
            place.chmod(0o755)
        else:
            os.chown(place, 0, group)
            place.chmod((0o2777 if group else 0o777) if "emptyDir" in volume else 0o2775)
        return place

    def _place(self, pod: Pod, volume: Mapping[str, Any]) -> Path:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName", "")
        return self._folder / (f"claim-{claim}" if claim else f"{pod.name}-{volume['name']}")

    def _secret(self, name: str) -> dict[str, bytes]:
        (found,) = (each for each in self._objects if each["kind"] == "Secret" and each["metadata"]["name"] == name)
        return {key: base64.b64decode(value) for key, value in found["data"].items()}


def pod_spec(workload: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a workload's pods, or of a pod."""
    spec: dict[str, Any] = workload["spec"] if workload["kind"] == "Pod" else workload["spec"]["template"]["spec"]
    return spec


def port_number(container: Mapping[str, Any], port: int | str) -> int:
    """The number of a port that a probe or a service names."""
    named = {each["name"]: int(each["containerPort"]) for each in container.get("ports", ())}
    return port if isinstance(port, int) else named[port]


def _answers(pod: Pod, container: Mapping[str, Any], probe: Mapping[str, Any]) -> bool:
    try:
        if page := probe.get("httpGet"):
            address = f"http://{pod.address}:{port_number(container, page['port'])}{page['path']}"
            with urllib.request.urlopen(address, timeout=_WITHIN_S) as answer:  # http
                return int(answer.status) == 200
        if opened := probe.get("tcpSocket"):
            with socket.create_connection((pod.address, port_number(container, opened["port"])), _WITHIN_S):
                return True
    except (urllib.error.URLError, OSError):
        return False
    return True


def _spec(workload: Mapping[str, Any]) -> dict[str, Any]:
    spec = dict(pod_spec(workload))
    claims = workload["spec"].get("volumeClaimTemplates", ())
    name = workload["metadata"]["name"]
    spec["volumes"] = [
        *spec["volumes"],
        *(
            {
                "name": claim["metadata"]["name"],
                "persistentVolumeClaim": {"claimName": f"{claim['metadata']['name']}-{name}-0"},
            }
            for claim in claims
        ),
    ]
    return spec


def _variables(pod: Pod, container: Mapping[str, Any]) -> dict[str, str]:
    downward = {"status.podIP": pod.address, "metadata.name": f"{pod.name}-0"}
    found: dict[str, str] = {}
    for variable in container.get("env", ()):
        if "valueFrom" in variable:
            value = downward[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            value = variable["value"]
        for name, known in found.items():
            value = value.replace(f"$({name})", known)
        found[variable["name"]] = value
    return found
