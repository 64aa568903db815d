"""`cloister kubernetes`: a Secret of its own files for each pod, the cluster's addresses, no key without need."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloister.cli.mesh_folder import Mesh
from cloister.kit.config import load
from cloister.provisioner.settings import Settings as ProvisionerSettings
from cloister.verifier.settings import Settings as VerifierSettings
from cloister.worker.settings import Settings as WorkerSettings

ROOT = Path(__file__).resolve().parents[3]
SGX = ROOT / "deploy" / "kubernetes" / "overlays" / "sgx"
REDIS = SGX.parents[1] / "components" / "redis"
SEALED = {
    "verifier": {"verifier/attested_ca.key", "identities/verifier/main/private_key.pem", "verifier/state.key"},
    "provisioner": {"provisioner/root.key", "identities/provisioner/main/private_key.pem", "provisioner/state.key"},
}
KEY_SET = "verifier/signing_keys/key_set.json"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(mesh: Mesh, tmp_path: Path) -> Path:
    """A mesh for SGX that may be changed."""
    return Path(shutil.copytree(mesh.folder, tmp_path / "mesh"))


@pytest.fixture
def enclaves(folder: Path, tmp_path: Path) -> Path:
    """What building and signing leave that counts here: what brings secrets in, and the keys of states."""
    for kind in SEALED:
        (folder / kind / "state.key").write_bytes(bytes(16))
        (tmp_path / "enclaves" / kind).mkdir(parents=True)
        for suffix in (".manifest", ".manifest.sgx", ".sig"):
            (tmp_path / "enclaves" / kind / f"{kind}-import{suffix}").write_text("importer")
    return tmp_path / "enclaves"


def written(kustomization: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(kustomization.read_text()))


def files(kustomization: Path, secret: str) -> dict[str, str]:
    """What a Secret is made of: the name in it, and the path in the mesh folder or beside it."""
    (found,) = (each for each in written(kustomization)["secretGenerator"] if each["name"] == secret)
    return dict(row.split("=") for row in found["files"])


def paths(folder: Path, secret: str) -> set[str]:
    return set(files(folder / "kustomization.yaml", secret).values())


def test_each_service_has_a_secret_of_the_files_that_its_settings_name(run: Run, folder: Path, enclaves: Path) -> None:
    code, _, _ = run("kubernetes", folder, "--manifests", SGX, "--enclaves", enclaves)
    assert code == 0
    names = [each["name"] for each in written(folder / "kustomization.yaml")["secretGenerator"]]
    assert names == [f"{each}-mesh" for each in ("verifier", "provisioner", "gateway", "worker", "redis")]
    assert "gateway/settings.toml" in paths(folder, "gateway-mesh")
    assert not [path for path in paths(folder, "gateway-mesh") if "provisioner" in path or "attested_ca" in path]
    assert not [name for name in names for path in paths(folder, name) if path.startswith("pki/")]
    assert files(folder / "kustomization.yaml", "worker-mesh")["worker..settings.toml"] == "worker/settings.toml"


@pytest.mark.attack("J15")
def test_of_a_mesh_for_sgx_nothing_is_described_before_there_are_enclaves(run: Run, folder: Path) -> None:
    there = {path for path in folder.rglob("*") if path.is_file()}
    code, said, _ = run("kubernetes", folder, "--manifests", SGX)
    assert code == 0
    assert "build-mesh" in said
    assert "kubectl" not in said
    assert {path for path in folder.rglob("*") if path.is_file()} == there


def test_it_stands_on_the_overlay_and_the_components_that_were_named(run: Run, folder: Path, enclaves: Path) -> None:
    run("kubernetes", folder, "--manifests", SGX, "--component", REDIS, "--enclaves", enclaves)
    found = written(folder / "kustomization.yaml")
    assert [(folder / each).resolve() for each in found["resources"]] == [SGX]
    assert [(folder / each).resolve() for each in found["components"]] == [REDIS]
    run("kubernetes", folder, "--manifests", "https://git.example.org/cloister//deploy?ref=v1", "--enclaves", enclaves)
    found = written(folder / "kustomization.yaml")
    assert found["resources"] == ["https://git.example.org/cloister//deploy?ref=v1"]
    assert "components" not in found


def test_settings_that_are_measured_have_the_addresses_of_the_cluster(run: Run, folder: Path) -> None:
    run("kubernetes", folder, "--manifests", SGX)

    def loaded(service: str, settings: Any) -> Any:
        return load(settings, folder / service / "settings.toml", {}, prefix="CLOISTER_")

    verifier = loaded("verifier", VerifierSettings)
    assert (verifier.listen, verifier.https_listen) == ("0.0.0.0:8442", "0.0.0.0:8443")
    provisioner = loaded("provisioner", ProvisionerSettings)
    assert (provisioner.listen, provisioner.verifier) == ("0.0.0.0:8444", "verifier:8442")
    assert verifier.metrics_listen == provisioner.metrics_listen == "0.0.0.0:9464"
    worker = loaded("worker", WorkerSettings)
    assert (worker.verifier, worker.provisioner) == ("verifier:8442", "provisioner:8444")


@pytest.mark.attack("J15")
@pytest.mark.parametrize("kind", SEALED)
def test_what_is_brought_into_an_enclave_is_in_no_secret_that_stays(
    run: Run, folder: Path, enclaves: Path, kind: str
) -> None:
    code, said, _ = run("kubernetes", folder, "--manifests", SGX, "--enclaves", enclaves)
    assert code == 0
    assert "kubectl apply" in said
    brought_in = files(folder / "bring-in" / "kustomization.yaml", f"{kind}-secrets")
    seen = {path.removeprefix("../") for path in brought_in.values() if not path.startswith("../../")}
    assert seen >= SEALED[kind]
    assert f"{kind}/settings.toml" in paths(folder, f"{kind}-mesh")
    assert not seen & paths(folder, f"{kind}-mesh")
    assert {name for name in brought_in if name.startswith("importer..")} == {
        f"importer..{kind}-import{suffix}" for suffix in (".manifest", ".manifest.sgx", ".sig")
    }
    assert [path for path in brought_in.values() if not (folder / "bring-in" / path).is_file()] == []


def test_what_is_sealed_in_one_enclave_others_still_read(run: Run, folder: Path, enclaves: Path) -> None:
    run("kubernetes", folder, "--manifests", SGX, "--enclaves", enclaves)
    assert KEY_SET not in paths(folder, "verifier-mesh")
    for reader in ("worker-mesh", "provisioner-mesh"):
        assert KEY_SET in paths(folder, reader)
        assert not [path for path in paths(folder, reader) if path.endswith(".key")]


def test_the_secrets_of_enclaves_keep_their_names_so_that_they_can_be_deleted(
    run: Run, folder: Path, enclaves: Path
) -> None:
    run("kubernetes", folder, "--manifests", SGX, "--enclaves", enclaves)
    assert written(folder / "bring-in" / "kustomization.yaml")["generatorOptions"]["disableNameSuffixHash"] is True


@pytest.mark.parametrize(
    ("missing", "advice"),
    [("verifier-import.sig", "sign it"), ("verifier-import.manifest", "build the enclave")],
)
def test_an_enclave_that_nobody_signed_is_refused(
    run: Run, folder: Path, enclaves: Path, missing: str, advice: str
) -> None:
    (enclaves / "verifier" / missing).unlink()
    code, _, said = run("kubernetes", folder, "--manifests", SGX, "--enclaves", enclaves)
    assert code != 0
    assert advice in said
    assert not (folder / "kustomization.yaml").exists()


def test_without_the_key_of_its_state_an_enclave_was_not_built_from_this_folder(
    run: Run, folder: Path, enclaves: Path
) -> None:
    (folder / "provisioner" / "state.key").unlink()
    code, _, said = run("kubernetes", folder, "--manifests", SGX, "--enclaves", enclaves)
    assert code != 0
    assert "state.key" in said


def test_a_folder_that_is_no_kustomization_is_refused(run: Run, folder: Path, enclaves: Path, tmp_path: Path) -> None:
    code, _, said = run("kubernetes", folder, "--manifests", tmp_path, "--enclaves", enclaves)
    assert code == 2
    assert "no kustomization" in said


def test_a_secret_that_no_cluster_takes_is_refused(run: Run, folder: Path, enclaves: Path) -> None:
    (folder / "gateway" / "tenants.toml").write_text("# " + "x" * (1 << 20))
    code, _, said = run("kubernetes", folder, "--manifests", SGX, "--enclaves", enclaves)
    assert code != 0
    assert "gateway-mesh" in said
