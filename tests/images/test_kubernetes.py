"""The laptop overlay, rendered with a mesh's secrets by kubectl, its pods run by podman and asked from outside."""

from __future__ import annotations

import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import yaml

from fakes.containers import BIN, ENGINE, eventually, published, run
from fakes.pods import NETWORK, Node, Pod

SERVED = ("gateway", "provisioner", "verifier")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kubernetes") / "mesh"
    # A gateway's certificate names where clients come to it, as a load balancer's address would be named.
    hosts = [word for address in islice(NETWORK.hosts(), 8) for word in ("--host", address)]
    run(BIN / "cloister", "init", folder, "--model", "breast-cancer", "--simulator", *hosts)
    run(BIN / "cloister", "kubernetes", folder, "--manifests", "deploy/kubernetes/overlays/laptop")
    return folder


@pytest.fixture(scope="module")
def node(mesh: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    (folder / "containers.conf").write_text(ENGINE)
    objects = [each for each in yaml.safe_load_all(run("kubectl", "kustomize", mesh)) if each]
    node = Node(folder, folder / "containers.conf", objects)
    _addressed(mesh, node)
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="module")
def record(mesh: Path, node: Node, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs for a model that is published into the volume of models, allowed and served."""
    (models,) = (volume for volume in node.volumes("worker") if volume.name == "claim-models")
    return published(mesh, tmp_path_factory.mktemp("model"), models)


def _addressed(mesh: Path, node: Node) -> None:
    """Have the mesh folder name the addresses that the pods have here, as a port-forward or a load balancer would."""
    text = (mesh / "mesh.toml").read_text()
    addresses = tomllib.loads(text)["addresses"]
    ports = {"gateway": 8440, "verifier": 8442, "provisioner": 8444, "verifier_https": 8443, "gateway_https": 8441}
    for name, port in ports.items():
        text = text.replace(
            f'{name} = "{addresses[name]}"', f'{name} = "{node.pods[name.split("_")[0]].address}:{port}"'
        )
    (mesh / "mesh.toml").write_text(text)


def page(pod: Pod, path: str) -> int:
    """The status of one of the operator's pages, as a probe of the kubelet sees it."""
    try:
        with urllib.request.urlopen(f"http://{pod.address}:9464{path}", timeout=5) as answer:  # http
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def asked(mesh: Path, record: Path) -> bool:
    """Whether a sealed request is answered."""
    try:
        return "outputs" in run(BIN / "cloister", "infer", "breast-cancer", "--input", record, "--mesh", mesh, "--json")
    except AssertionError:
        return False


def test_a_sealed_request_is_answered(mesh: Path, node: Node, record: Path) -> None:
    assert asked(mesh, record)


@pytest.mark.parametrize("service", SERVED)
def test_probes_find_it_alive_and_ready(node: Node, record: Path, service: str) -> None:
    assert (page(node.pods[service], "/live"), page(node.pods[service], "/ready")) == (200, 200)


@pytest.mark.parametrize("service", ["worker", "provisioner", "redis", "verifier", "gateway"])
def test_a_pod_in_the_place_of_a_lost_one_goes_on(mesh: Path, node: Node, record: Path, service: str) -> None:
    node.replace(node.pods[service])
    eventually(lambda: all(page(node.pods[each], "/ready") == 200 for each in SERVED))
    eventually(lambda: asked(mesh, record))
