"""The guide to Kubernetes is typed as it is written, before a cluster of one machine whose pods podman runs.

It has a network of its own, so that the addresses of the page are free. What kubectl does there, and what it cannot
show, says `fakes.kubectl`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fakes.containers import ENGINE, REPOSITORY, run
from fakes.guide import Reader, Step, steps
from fakes.kubectl import FOLDER, REAL
from fakes.small_model import write_model

PAGE = "kubernetes.md"
ASKED = Step(
    "cloister infer breast-cancer --input record.json --mesh ward-7", ("...", "benign_probability [1, 1]", "...")
)


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """A network namespace with nothing in it but its loopback interface."""
    name = f"cloister-guide-{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        run("ip", "netns", "delete", name)


@pytest.fixture(scope="module")
def reader(network: str, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Somebody in a clone of the repository, with a model, and a kubectl that has a cluster."""
    folder = tmp_path_factory.mktemp("kubernetes")
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    write_model(folder)
    cluster, programs = folder / f"cluster-{os.getpid()}", folder / "programs"
    cluster.mkdir()
    programs.mkdir()
    (cluster / "containers.conf").write_text(ENGINE)
    (programs / "kubectl").write_text(f'#!/bin/sh\nexec {sys.executable} -m fakes.kubectl "$@"\n')
    (programs / "kubectl").chmod(0o755)
    reader = Reader(folder, within=("nsenter", f"--net=/run/netns/{network}"))
    reader.environment |= {
        "PATH": f"{programs}:{reader.environment['PATH']}",
        "PYTHONPATH": str(REPOSITORY / "tests"),
        "CONTAINERS_CONF": str(cluster / "containers.conf"),
        FOLDER: str(cluster),
        REAL: str(shutil.which("kubectl")),
    }
    return reader


@pytest.fixture(scope="module")
def walked(reader: Reader) -> Iterator[Reader]:
    """The same person at the page's last step, which ends everything and is then taken too."""
    *walk, last = steps(PAGE)
    assert len(walk) > 20
    assert last.command == "kubectl delete -k mesh"
    with ExitStack() as beside:
        beside.callback(reader.does, last)
        for step in walk:
            if step.command.startswith("kubectl port-forward"):
                beside.enter_context(reader.follows(step))
            else:
                reader.does(step)
        yield reader


def test_the_page_ends_with_a_sealed_answer_and_its_receipt(walked: Reader) -> None:
    assert (walked.folder / "answer.receipt").stat().st_size > 0
    assert walked.known.keys() >= {"worker", "verifier"}


@pytest.mark.parametrize("service", ["provisioner", "redis", "verifier", "gateway"])
def test_a_pod_in_the_place_of_a_lost_one_goes_on(walked: Reader, service: str) -> None:
    kind = "deployment" if service == "gateway" else "statefulset"
    walked.does(Step(f"kubectl rollout restart {kind}/{service} -n cloister", ("...",)))
    walked.does(Step(f"kubectl rollout status {kind}/{service} -n cloister --timeout=110s", ("...",)))
    walked.does(ASKED)
