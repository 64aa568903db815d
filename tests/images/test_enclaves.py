"""Images of enclaves, and a mesh whose verifier, provisioner and worker are such, under `gramine-direct`."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.cli.ports import free_ports
from cloister.enclave.check import check_folder
from cloister.enclave.measurement import Measurement
from cloister.enclave.signers import new_key
from fakes.containers import BIN, ENGINE, REPOSITORY, Containers, config, eventually, image, mounted, published, run

pytestmark = pytest.mark.skipif(shutil.which("gramine-direct") is None, reason="Gramine is not installed")
KINDS = ("worker", "verifier", "provisioner")
PROGRAMS = {"simulated": "gramine-direct", "hardened": "gramine-sgx"}
FILES = ("compose.enclaves.yaml", "compose.gramine-direct.yaml")


def cloister(*words: object) -> str:
    """Run a `cloister` command of this repository, outside the containers."""
    return run(BIN / "cloister", *words)


def built_of(folders: list[Path]) -> dict[str, str]:
    """Make images of enclaves; returns their digests by name."""
    said = run("sh", "deploy/images/build.sh", "enclave", ENCLAVE=" ".join(map(str, folders)))
    return dict(line.rpartition("/")[2].split() for line in said.splitlines())


@pytest.fixture(scope="module")
def first_port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, first_port: int) -> Path:
    folder = tmp_path_factory.mktemp("enclaves") / "mesh"
    cloister("init", folder, "--model", "breast-cancer", "--simulator", "--port", first_port)
    return folder


@pytest.fixture(scope="module")
def enclaves(mesh: Path) -> Path:
    """Those of the mesh, simulated."""
    folder = mesh.parent / "enclaves"
    cloister("enclave", "build-mesh", mesh, "--out", folder, *(f"--kind={kind}" for kind in KINDS))
    return folder


@pytest.fixture(scope="module")
def hardened(mesh: Path) -> Path:
    """A worker as it would be run under SGX, signed by a key that is not kept."""
    folder, key = mesh.parent / "hardened" / "worker", mesh.parent / "signer.pem"
    cloister("enclave", "build", "worker", "--settings", mesh / "worker" / "settings.toml", "--out", folder)
    key.touch(mode=0o600)
    key.write_bytes(new_key().private_pem())
    cloister("enclave", "sign", folder, "--key", key)
    return folder


@pytest.fixture(scope="module")
def digests(enclaves: Path, hardened: Path) -> dict[str, str]:
    """The images of all of them."""
    return built_of([hardened, *(enclaves / kind for kind in KINDS)])


@pytest.fixture(scope="module")
def places(enclaves: Path, hardened: Path, digests: dict[str, str]) -> dict[str, Path]:
    """The folder that each image was made of, by the image's name."""
    return {"enclave-worker": hardened} | {f"simulated-enclave-{kind}": enclaves / kind for kind in KINDS}


NAMES = ("enclave-worker", *(f"simulated-enclave-{kind}" for kind in KINDS))


@pytest.mark.attack("J11")
@pytest.mark.parametrize("name", NAMES)
def test_what_is_in_the_image_measures_as_what_was_signed_outside(places: dict[str, Path], name: str) -> None:
    inside = check_folder(mounted(name) / "enclave")
    assert inside.measured == Measurement.read(places[name])
    assert inside.measured_again
    assert not inside.changed
    labels = dict(config(name)["Labels"])  # type: ignore[call-overload]
    assert labels["cloister.mrenclave"] == inside.measured.mrenclave


@pytest.mark.attack("J11")
@pytest.mark.parametrize("name", NAMES)
def test_of_gramine_it_has_what_starts_its_set_and_nothing_else(places: dict[str, Path], name: str) -> None:
    own = PROGRAMS[Measurement.read(places[name]).enclave_set]
    assert [path.name for path in mounted(name).rglob("gramine-*")] == [own]
    assert len(list(mounted(name).rglob("libpal.so"))) == 1
    assert not list(mounted(name).rglob("graminelibos"))


@pytest.mark.attack("J11")
@pytest.mark.parametrize("name", NAMES)
def test_it_has_no_key_no_importer_and_no_file_of_the_machine_that_built_it(
    places: dict[str, Path], mesh: Path, name: str
) -> None:
    folder = mounted(name) / "enclave"
    kind = name.rpartition("-")[2]
    expected = {"gramine", "mesh", "root", "measurement.json", f"{kind}.manifest"}
    if not name.startswith("simulated"):
        expected |= {f"{kind}.manifest.sgx", f"{kind}.sig", f"{kind}.unsigned.sig"}
    assert {path.name for path in folder.iterdir()} == expected
    assert run("find", folder, "-type", "l").splitlines() == []
    # Python's own names of keys are no keys; a PEM header is one.
    assert run("sh", "-c", f"grep -rlE 'BEGIN [A-Z ]*PRIVATE KEY-----$' {mounted(name)}/enclave/mesh || true") == ""
    assert str(mesh.parent).encode() not in (folder / "measurement.json").read_bytes()


@pytest.mark.attack("J11")
def test_the_image_of_a_hardened_enclave_has_no_simulator(digests: dict[str, str]) -> None:
    assert not list(mounted("enclave-worker").rglob("cloister_simulator*"))
    assert "cloister.simulated" not in dict(config("enclave-worker")["Labels"])  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_of_a_simulated_one_says_what_it_is(digests: dict[str, str], kind: str) -> None:
    labels = dict(config(f"simulated-enclave-{kind}")["Labels"])  # type: ignore[call-overload]
    assert labels["cloister.simulated"] == "true"


def test_a_hardened_enclave_starts_under_sgx_or_not_at_all(digests: dict[str, str], mesh: Path, hardened: Path) -> None:
    """Here is no SGX; it says so, and has no other way."""
    engine = mesh.parent / "containers.conf"
    engine.write_text(ENGINE)
    own = mesh.parent / "of-the-worker"
    shutil.copytree(mesh / "worker", own / "worker")
    run("chown", "-R", "10001:10001", own)
    words = (
        "--rm",
        "--read-only",
        "--tmpfs=/place",
        "--network=none",
        "--ulimit=nofile=16384:16384",
        "--ulimit=nproc=4096:4096",
    )
    with pytest.raises(AssertionError, match="there is no /dev/sgx_enclave"):
        run(
            "podman",
            "run",
            *words,
            f"--volume={own}:/etc/cloister:ro",
            image("enclave-worker"),
            CONTAINERS_CONF=str(engine),
        )


def test_another_gramine_than_it_was_measured_with_gets_into_no_image(enclaves: Path, tmp_path: Path) -> None:
    program = Path(shutil.which("gramine-direct") or "").resolve()
    (tmp_path / "usr/bin").mkdir(parents=True)
    shutil.copy(program, tmp_path / "usr/bin/gramine-direct")
    for found in re.findall(r"^(?:PAL_CMD|LIBPAL_PATH)=/(\S+)$", program.read_text(), re.M):
        (tmp_path / found).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"/{found}", tmp_path / found)
    other = (tmp_path / found).parent.parent / "sgx" / "libpal.so"
    other.parent.mkdir()
    other.write_bytes(b"of another build")
    with pytest.raises(AssertionError, match="is another than the enclave was measured with"):
        run("sh", "deploy/images/build.sh", "enclave", ENCLAVE=str(enclaves / "worker"), GRAMINE=str(tmp_path))


@pytest.fixture(scope="module")
def containers(mesh: Path, enclaves: Path, digests: dict[str, str], first_port: int) -> Iterator[Containers]:
    engine = mesh.parent / "containers.conf"
    engine.write_text(ENGINE)
    names = ("redis", "verifier", "provisioner", "gateway", "worker", "simulator", "models")
    roles = ("redis", "verifier", "provisioner", "gateway", "enrol")
    run("chown", "-R", "10001:10001", *(mesh / name for name in names), *(mesh / "identities" / role for role in roles))
    run("chown", "-R", "10001:10001", enclaves)
    mesh.parent.chmod(0o755)
    port = free_ports(1, besides=range(first_port, first_port + 8))[0]
    up = Containers(mesh, engine, port, files=FILES, SET="simulated-", ENCLAVES=str(enclaves))
    try:
        for kind in ("verifier", "provisioner"):
            up.compose("--profile", "import", "run", "--rm", f"{kind}-import")
        up.compose("up", "-d", "--no-build")
        yield up
    finally:
        up.compose("down", "--volumes")


@pytest.fixture(scope="module")
def record(containers: Containers, enclaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs for a model that is published, allowed to the enclave and served by it."""
    folder, mesh = tmp_path_factory.mktemp("model"), containers.mesh
    return published(mesh, folder, mesh / "models", mrenclave=Measurement.read(enclaves / "worker").mrenclave)


def answered(containers: Containers, record: Path) -> bool:
    try:
        return "outputs" in cloister("infer", "breast-cancer", "--input", record, "--mesh", containers.mesh, "--json")
    except AssertionError:  # it is on its way
        return False


def test_a_sealed_request_is_answered_by_a_worker_in_an_enclave(containers: Containers, record: Path) -> None:
    assert answered(containers, record)


@pytest.mark.parametrize("service", KINDS)
def test_a_container_of_an_enclave_can_do_nothing_else(containers: Containers, record: Path, service: str) -> None:
    found = json.loads(containers.podman("inspect", containers.container(service)))[0]
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert not found["EffectiveCaps"]
    process = Path("/proc", str(found["State"]["Pid"]))
    fields = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {"10001"}
    assert (fields["NoNewPrivs"], int(fields["CapEff"], 16)) == ("1", 0)
    assert "gramine" in (process / "cmdline").read_text()


@pytest.mark.parametrize("service", KINDS)
def test_an_enclave_whose_container_is_killed_comes_back_with_its_state(
    containers: Containers, record: Path, service: str
) -> None:
    before = json.loads(containers.podman("inspect", containers.container(service)))[0]["State"]["Pid"]
    os.kill(before, 9)

    def back() -> bool:
        state = json.loads(containers.podman("inspect", containers.container(service)))[0]["State"]
        return bool(state["Running"] and state["Pid"] not in (0, before))

    eventually(back)
    eventually(lambda: answered(containers, record))


def test_a_second_build_is_the_same(enclaves: Path, hardened: Path, digests: dict[str, str]) -> None:
    assert built_of([hardened, *(enclaves / kind for kind in KINDS)]) == digests
    assert (REPOSITORY / "build/images/enclave-worker.digest").read_text().strip() == digests["enclave-worker"]
