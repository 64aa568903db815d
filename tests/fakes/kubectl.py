"""`kubectl` before a cluster of one machine, for guides: a program to put on the path under that name.

Kustomizations are rendered by the real one. What is applied is held against the schemas and, in a namespace that says
so, against the "restricted" profile; then podman runs its pods. It has the verbs that our guides use, and no others.
Its folder, in CLUSTER, holds what was applied and the pods' volumes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fakes.manifests import Object, parsed, validate
from fakes.pod_security import objections
from fakes.pods import WORKLOADS, Node, Pod, pod_spec, port_number

FOLDER: Final = "CLOISTER_TEST_CLUSTER"
REAL: Final = "CLOISTER_TEST_KUBECTL"
"""Where the real one is."""
_ENFORCE: Final = "pod-security.kubernetes.io/enforce"
_POLL_S: Final = 0.3


class Cluster:
    """What was applied, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "objects.json"
        self.objects: list[Object] = json.loads(self._file.read_text()) if self._file.exists() else []

    @property
    def node(self) -> Node:
        """The machine that runs its pods."""
        return Node(self.folder, self.folder / "containers.conf", self.objects, self.folder.name)

    def apply(self, objects: Sequence[Object]) -> None:
        """Take objects in, all or none, and run what is new."""
        for each in objects:
            validate(each)
        known = {_name(each) for each in self.objects}
        begun = not self.objects
        self.objects += [each for each in objects if _name(each) not in known]
        self._admit()
        self._file.write_text(json.dumps(self.objects))
        node = self.node
        if begun:
            node.begin()
        for each in objects:
            if each["kind"] in WORKLOADS and _name(each) not in known:
                node.run(node.pods[each["metadata"]["name"]])
            print(f"{_name(each)} {'unchanged' if _name(each) in known else 'created'}")

    def delete(self, objects: Sequence[Object]) -> None:
        """Stop what runs of them, and forget them."""
        node, gone = self.node, {_name(each) for each in objects}
        for each in objects:
            if each["kind"] in WORKLOADS:
                node.remove(node.pods[each["metadata"]["name"]])
            print(f"{_name(each)} deleted")
        self.objects = [each for each in self.objects if _name(each) not in gone]
        self._file.write_text(json.dumps(self.objects))
        if not any(each["kind"] in WORKLOADS for each in self.objects):
            node.stop()

    def _admit(self) -> None:
        """Refuse a pod that its namespace does not let in, as admission of the API server does."""
        labels = {each["metadata"]["name"]: each["metadata"]["labels"] for each in self._of("Namespace")}
        for each in self._of(*WORKLOADS):
            restricted = labels[each["metadata"]["namespace"]].get(_ENFORCE) == "restricted"
            if restricted and (found := objections(pod_spec(each))):
                sys.exit(f"Error from server (Forbidden): {_name(each)} violates PodSecurity: {sorted(found)}")

    def _of(self, *kinds: str) -> Iterator[Object]:
        return (each for each in self.objects if each["kind"] in kinds)


def _name(each: Object) -> str:
    return f"{each['kind'].lower()}/{each['metadata']['name']}"


def rendered(options: argparse.Namespace) -> tuple[Object, ...]:
    """The objects that `-k` or `-f` names."""
    if options.kustomize:
        command = [os.environ[REAL], "kustomize", options.kustomize]
        return parsed(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return parsed(sys.stdin.read() if options.file == "-" else Path(options.file).read_text())


def wait(cluster: Cluster, options: argparse.Namespace) -> None:
    """Return once pods are ready."""
    for word in options.words:
        _until_ready(cluster.node, word.removeprefix("pod/"), options.timeout)
        print(f"{word} condition met")


def rolled_out(cluster: Cluster, workload: str, timeout: str) -> None:
    """Return once a workload's pod is ready; the one that it replaces has gone before."""
    kind, _, name = workload.partition("/")
    assert workload in {_name(each) for each in cluster.objects}, f"{workload} not found"
    _until_ready(cluster.node, name, timeout)
    done = "statefulset rolling update complete 1 pods at revision 1..."
    print(f'deployment "{name}" successfully rolled out' if kind == "deployment" else done)


def _until_ready(node: Node, name: str, timeout: str) -> None:
    deadline = time.monotonic() + float(timeout.removesuffix("s"))
    while not node.is_ready(node.pods[name]):
        if time.monotonic() > deadline:
            sys.exit(f"error: timed out waiting for the condition on pods/{name}\n{node.logs(node.pods[name])}")
        time.sleep(_POLL_S)


async def forward(cluster: Cluster, service: str, ports: Sequence[int]) -> None:
    """Bring ports of a service to this machine, until it is killed."""
    (found,) = (each for each in cluster.objects if _name(each) == f"service/{service}")
    pod = cluster.node.pods[found["spec"]["selector"]["app.kubernetes.io/name"]]
    (container,) = pod.spec["containers"]
    targets = {each["port"]: port_number(container, each["targetPort"]) for each in found["spec"]["ports"]}
    async with asyncio.TaskGroup() as tasks:
        for port in ports:
            server = await asyncio.start_server(_carrier(pod, targets[port]), "127.0.0.1", port)
            tasks.create_task(server.serve_forever())
            print(f"Forwarding from 127.0.0.1:{port} -> {targets[port]}", flush=True)


def _carrier(pod: Pod, port: int) -> Any:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(pod.address, port)
        except OSError:
            writer.close()
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(copy(reader, there[1]))
            both.create_task(copy(there[0], writer))

    return carry


def copy_in(cluster: Cluster, source: Path, destination: str) -> None:
    """Put a folder into a folder of a pod, by the tar that is in its image, as kubectl does."""
    pod, _, folder = destination.partition("/")[2].partition(":")
    node = cluster.node
    (container,) = node.pods[pod].spec["containers"]
    into = ["podman", "exec", "-i", node.container(node.pods[pod], container), "tar", "-xmf", "-", "-C", folder]
    with subprocess.Popen(["tar", "-cf", "-", "-C", source.parent, source.name], stdout=subprocess.PIPE) as packed:
        subprocess.run(into, stdin=packed.stdout, check=True)


def main() -> None:
    """Do what was typed."""
    parser = argparse.ArgumentParser("kubectl")
    parser.add_argument("verb", choices=["apply", "delete", "wait", "rollout", "port-forward", "cp"])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--kustomize", "-k")
    parser.add_argument("--file", "-f")
    parser.add_argument("--namespace", "-n", choices=["cloister"])
    parser.add_argument("--for", choices=["condition=Ready"])
    parser.add_argument("--timeout", default="30s")
    options = parser.parse_intermixed_args()
    cluster = Cluster(Path(os.environ[FOLDER]))
    match options.verb, options.words:
        case "apply", []:
            cluster.apply(rendered(options))
        case "delete", []:
            cluster.delete(rendered(options))
        case "wait", _:
            wait(cluster, options)
        case "rollout", ["restart", workload]:
            cluster.node.replace(cluster.node.pods[workload.partition("/")[2]])
            print(f"{workload} restarted")
        case "rollout", ["status", workload]:
            rolled_out(cluster, workload, options.timeout)
        case "port-forward", [service, *ports]:
            asyncio.run(forward(cluster, service.removeprefix("service/"), [int(port) for port in ports]))
        case "cp", [source, destination]:
            copy_in(cluster, Path(source), destination)
        case _:
            parser.error(f"{options.verb} is not done like this here")


if __name__ == "__main__":
    main()
