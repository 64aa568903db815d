"""The example of KServe: what its controller would run, run by podman, and asked by KServe's own clients."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.containers import BIN, ENGINE, REPOSITORY, eventually, published, run
from fakes.kserve import deployed
from fakes.manifests import parsed
from fakes.pods import NETWORK, Node

CLIENT = REPOSITORY / ".venv-kserve" / "bin" / "python"
PREDICTOR = "breast-cancer-predictor"
PORTS = {"gateway": 8440, "gateway_https": 8441, "verifier": 8442, "verifier_https": 8443, "provisioner": 8444}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kserve") / "mesh"
    hosts = [word for address in islice(NETWORK.hosts(), 8) for word in ("--host", address)]
    run(BIN / "cloister", "init", folder, "--model", "breast-cancer", "--simulator", *hosts)
    run(BIN / "cloister", "kubernetes", folder, "--manifests", "deploy/kubernetes/examples/kserve")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the node, for its volumes."""
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def node(mesh: Path, folder: Path) -> Iterator[Node]:
    (folder / "containers.conf").write_text(ENGINE)
    applied = parsed(run("kubectl", "kustomize", mesh))
    node = Node(folder, folder / "containers.conf", [*applied, *deployed(applied)])
    addresses = tomllib.loads((mesh / "mesh.toml").read_text())["addresses"]
    text = (mesh / "mesh.toml").read_text()
    for name, port in PORTS.items():
        pod = node.pods[PREDICTOR if name.startswith("gateway") else name.split("_")[0]]
        text = text.replace(f'{name} = "{addresses[name]}"', f'{name} = "{pod.address}:{port}"')
    (mesh / "mesh.toml").write_text(text)
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="module")
def record(mesh: Path, node: Node, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs for a model that is published, served, and may be asked by who does not seal."""
    return published(mesh, tmp_path_factory.mktemp("model"), folder / "claim-models", "--allow-plain")


def asked(mesh: Path, record: Path) -> Any:
    """The outputs of a sealed request by their names, flat; or nothing."""
    try:
        said = run(BIN / "cloister", "infer", "breast-cancer", "--input", record, "--mesh", mesh, "--json")
    except AssertionError:
        return None
    return {output["name"]: np.ravel(output["data"]) for output in json.loads(said)["outputs"]}


def test_kserve_finds_it_ready_and_it_answers_what_is_sealed(mesh: Path, node: Node, record: Path) -> None:
    eventually(lambda: node.is_ready(node.pods[PREDICTOR]))
    assert asked(mesh, record)


def test_kserves_own_clients_are_answered_too(mesh: Path, node: Node, record: Path) -> None:
    if not CLIENT.exists():
        pytest.skip("KServe's client is not installed: make .venv-kserve/installed")
    address, identity = node.pods[PREDICTOR].address, mesh / "identities" / "client" / "main"
    script = REPOSITORY / "tests" / "stock" / "kserve_predictor.py"
    said = json.loads(run(CLIENT, script, address, identity, record).splitlines()[-1])
    sealed = asked(mesh, record)
    for carried in ("rest", "grpc"):
        for name, value in said[carried].items():
            np.testing.assert_allclose(np.ravel(value), sealed[name], rtol=1e-5)


def test_another_in_its_place_goes_on(mesh: Path, node: Node, record: Path) -> None:
    node.replace(node.pods[PREDICTOR])
    eventually(lambda: node.is_ready(node.pods[PREDICTOR]))
    eventually(lambda: asked(mesh, record))
