"""Pods of rendered manifests, run by podman with what Kubernetes would give them; no cluster.

Each pod has an address of its own; names of services stand in its hosts file. Volumes are folders, with owner, group
and modes as a kubelet sets them. Not here: scheduling, network policies, restarts by probes (they are asked by tests).
"""

from __future__ import annotations

import base64
import ipaddress
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.containers import run

NETWORK = ipaddress.ip_network("10.98.217.0/24")


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
        objects: All rendered objects.
    """

    def __init__(self, folder: Path, engine: Path, objects: Sequence[Mapping[str, Any]]) -> None:
        self._folder = folder
        self._environment = {"CONTAINERS_CONF": str(engine)}
        self._objects = objects
        self._network = f"cloister-{os.getpid()}"
        addresses = NETWORK.hosts()
        next(addresses)  # the bridge's own
        workloads = [each for each in objects if each["kind"] in ("Deployment", "StatefulSet")]
        self.pods = {
            each["metadata"]["name"]: Pod(each["metadata"]["name"], str(next(addresses)), _spec(each))
            for each in workloads
        }

    def start(self) -> None:
        """Run every pod."""
        self.podman("network", "create", "--subnet", str(NETWORK), self._network)
        for pod in self.pods.values():
            self.run(pod)

    def stop(self) -> None:
        """Remove them all."""
        for pod in self.pods.values():
            for container in (*pod.spec["initContainers"], *pod.spec["containers"]):
                self.podman("rm", "--force", "--ignore", "--time", "5", _name(pod, container))
        self.podman("network", "rm", "--force", self._network)

    def run(self, pod: Pod) -> None:
        """Start a pod: volumes, then what prepares it, then what it is for."""
        volumes = {volume["name"]: self._volume(pod, volume) for volume in pod.spec["volumes"]}
        for container in pod.spec["initContainers"]:
            self.podman("run", "--rm", *self._options(pod, container, volumes))
        for container in pod.spec["containers"]:
            self.podman("run", "--detach", *self._options(pod, container, volumes))

    def replace(self, pod: Pod) -> None:
        """Kill a pod and start another in its place: volumes that are claimed stay, those of the pod are new."""
        for container in pod.spec["containers"]:
            self.podman("rm", "--force", "--time", "0", _name(pod, container))
        self.run(pod)

    def logs(self, pod: Pod) -> str:
        """What its container has printed."""
        return "".join(self.podman("logs", _name(pod, each)) for each in pod.spec["containers"])

    def volumes(self, name: str) -> list[Path]:
        """The folders of a pod's volumes."""
        return [self._place(self.pods[name], volume) for volume in self.pods[name].spec["volumes"]]

    def podman(self, *words: object) -> str:
        """Run podman."""
        return run("podman", *words, **self._environment)

    def _options(self, pod: Pod, container: Mapping[str, Any], volumes: Mapping[str, Path]) -> list[str]:
        context, security = pod.spec["securityContext"], container["securityContext"]
        words = ["--name", _name(pod, container), "--network", self._network, "--ip", pod.address]
        words += ["--user", f"{context['runAsUser']}:{context['runAsGroup']}", "--group-add", str(context["fsGroup"])]
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
        group = pod.spec["securityContext"]["fsGroup"]
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
            place.chmod(0o2777 if "emptyDir" in volume else 0o2775)
        return place

    def _place(self, pod: Pod, volume: Mapping[str, Any]) -> Path:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName", "")
        return self._folder / (f"claim-{claim}" if claim else f"{pod.name}-{volume['name']}")

    def _secret(self, name: str) -> dict[str, bytes]:
        (found,) = (each for each in self._objects if each["kind"] == "Secret" and each["metadata"]["name"] == name)
        return {key: base64.b64decode(value) for key, value in found["data"].items()}


def _spec(workload: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = dict(workload["spec"]["template"]["spec"])
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


def _name(pod: Pod, container: Mapping[str, Any]) -> str:
    return f"cloister-{os.getpid()}-{pod.name}-{container['name']}"
