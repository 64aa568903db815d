"""`cloister init`: all of a mesh or nothing, keys for their owner's eyes only, settings that every service accepts."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import DNSName, SubjectAlternativeName

from cloister.appraisal.policy import Policy
from cloister.appraisal.reference import ReferenceValue
from cloister.cli import founding, identities, settings_text
from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh
from cloister.client import TrustBundle, tls_files
from cloister.errors import InvalidRequest, NotReady
from cloister.gateway.settings import Settings as GatewaySettings
from cloister.kit.config import load
from cloister.kit.key_set import KeySigners, SignedKeySet
from cloister.provisioner.settings import Settings as ProvisionerSettings
from cloister.rpc.certificates import Authority, load_certificate
from cloister.rpc.identity import TlsIdentity
from cloister.verifier.grounds import trust_anchor
from cloister.verifier.policy_in_force import PolicyInForce, Signers
from cloister.verifier.settings import Settings as VerifierSettings
from cloister.worker.settings import Settings as WorkerSettings
from cloister.worker.verifier_keys import VerifierKeys
from fakes.founded import CLUSTER, found
from fakes.sim import simulated_platform

SERVICES = {
    "verifier": VerifierSettings,
    "provisioner": ProvisionerSettings,
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
}


def policy_in_force(settings: VerifierSettings) -> Policy:
    """What a verifier with these settings starts with."""
    anchor = trust_anchor(settings.anchor_root)
    return PolicyInForce.opened(settings.policy, signers=Signers(), anchor=anchor, folder=settings.state_dir).current()


def paths_in(settings: Any) -> list[Path]:
    values = [getattr(settings, name) for name in settings.__dataclass_fields__]
    files = [value for value in values if isinstance(value, Path)]
    return [*files, settings.tls.certificate, settings.tls.private_key, settings.tls.trust_roots]


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_accepts_its_settings_and_finds_its_files(mesh: Mesh, service: str) -> None:
    settings = load(SERVICES[service], mesh.settings(service), {}, prefix="CLOISTER_")
    later = {"state", "collateral.json"}  # made by the service; brought by the operator
    missing = [path for path in paths_in(settings) if not path.exists() and path.name not in later]
    assert missing == []


def test_private_files_are_private_and_the_rest_holds_no_private_key(mesh: Mesh) -> None:
    for path in (path for path in mesh.folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        secret = b"PRIVATE KEY" in content or path.name == "root.key"
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or not secret, path


@pytest.mark.parametrize("role", founding.FOUNDED_ROLES)
def test_every_identity_is_whole(mesh: Mesh, role: str) -> None:
    files = tls_files(mesh.identity(role))
    identity = TlsIdentity.held(
        files.certificate.read_bytes(), files.private_key.read_bytes(), files.trust_roots.read_bytes()
    )
    assert str(identity.spiffe_id) == f"spiffe://{CLUSTER}/{role}/main"
    assert (mesh.identity(role) / "signing_key.pem").exists() == (role == "owner")


def test_the_gateway_answers_to_the_names_it_was_given(mesh: Mesh) -> None:
    certificate = load_certificate(tls_files(mesh.identity("gateway")).certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(DNSName)
    assert names == [f"gateway.{CLUSTER}", "localhost", "gateway", "gateway.example"]


def test_the_verifier_serves_https_where_clients_are_told(mesh: Mesh) -> None:
    settings = load(VerifierSettings, mesh.settings("verifier"), {}, prefix="CLOISTER_")
    assert settings.https_listen == mesh.verifier_https
    assert len({mesh.gateway, mesh.verifier, mesh.provisioner, mesh.verifier_https, mesh.console}) == 5
    certificate = load_certificate(settings.tls.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(DNSName)
    assert names == [f"verifier.{CLUSTER}", "localhost", "verifier", "gateway.example"]


def test_a_mesh_folder_from_before_the_verifier_had_https_is_still_one(mesh: Mesh, tmp_path: Path) -> None:
    written = (mesh.folder / "mesh.toml").read_text().splitlines(keepends=True)
    (tmp_path / "mesh.toml").write_text("".join(line for line in written if "verifier_https" not in line))
    assert Mesh.read(tmp_path).verifier_https == ""


@pytest.mark.parametrize("simulated", [False, True])
def test_only_the_gateway_of_a_simulated_mesh_links_simulated_workers(tmp_path: Path, simulated: bool) -> None:
    mesh = Mesh(folder=tmp_path, cluster=CLUSTER, simulated=simulated, gateway="h:1", verifier="h:2", provisioner="h:3")
    assert ("simulated_workers = true" in settings_text.gateway(mesh)) is simulated


def test_the_trust_bundle_pins_the_verifier_that_was_founded(mesh: Mesh) -> None:
    bundle = TrustBundle.read(mesh.trust)
    assert bundle.cluster == CLUSTER
    assert bundle.verifier_id == f"spiffe://{CLUSTER}/verifier/main"
    assert not bundle.anchor.simulated
    root = Authority.from_pem(
        (mesh.folder / "pki" / "root_ca.pem").read_bytes(), (mesh.folder / "pki" / "root_ca.key").read_bytes()
    )
    assert bundle.root_ca_pem.encode() == root.certificate_pem


def test_workers_serve_models_of_the_founding_owner_and_the_settings_say_how_to_add_one(mesh: Mesh) -> None:
    settings = load(WorkerSettings, mesh.settings("worker"), {}, prefix="CLOISTER_")
    owner = identities.owner_key(mesh.identity("owner"))
    assert settings.model_owners == (owner,)
    assert TrustBundle.read(mesh.trust).owners == {owner}
    assert "# A model is served only if" in mesh.settings("worker").read_text()


def test_the_provisioner_pins_the_key_of_the_verifier_that_was_founded(mesh: Mesh) -> None:
    settings = load(ProvisionerSettings, mesh.settings("provisioner"), {}, prefix="CLOISTER_")
    bundle = TrustBundle.read(mesh.trust)
    signed = SignedKeySet.read(settings.verifier_keys.read_bytes(), bundle.signers, issuer=settings.verifier_id)
    assert bundle.signers == KeySigners(frozenset(settings.key_signers), settings.key_threshold)
    assert signed.keys.thumbprints == bundle.keys().thumbprints


def test_workers_pin_the_key_of_the_verifier_that_was_founded(mesh: Mesh) -> None:
    settings = load(WorkerSettings, mesh.settings("worker"), {}, prefix="CLOISTER_")
    pinned = VerifierKeys.read(
        settings.verifier_keys, settings.signers, issuer=settings.audience, monotonic=lambda: 0.0
    )
    assert pinned.keys.thumbprints == TrustBundle.read(mesh.trust).keys().thumbprints
    assert pinned.pinned == b""


def test_named_measurements_are_what_verifier_and_clients_believe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["ab" * 32, "cd" * 32]
    mesh = found(tmp_path / "mesh", monkeypatch, mrenclave=wanted)
    assert TrustBundle.read(mesh.trust).mrenclave == set(wanted)
    settings = load(VerifierSettings, mesh.settings("verifier"), {}, prefix="CLOISTER_")
    assert settings.policy == mesh.folder / "verifier" / "policy.toml"
    assert policy_in_force(settings) == replace(
        Policy.default(),
        policy_id="founded",
        version=1,
        reference_values=tuple(ReferenceValue(mrenclave=bytes.fromhex(each)) for each in wanted),
    )


def test_without_a_measurement_nobody_is_believed(mesh: Mesh) -> None:
    assert not TrustBundle.read(mesh.trust).pins_code
    settings = load(VerifierSettings, mesh.settings("verifier"), {}, prefix="CLOISTER_")
    with pytest.raises(NotReady, match="match-all"):
        policy_in_force(settings)


@pytest.mark.parametrize(("named", "believed"), [((), "12" * 32), (("ab" * 32,), "ab" * 32)])
def test_clients_of_a_simulated_mesh_believe_the_code_that_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...], believed: str
) -> None:
    def simulator(*words: str) -> str:
        if words[0] == "init":
            Path(words[1]).mkdir()
            (Path(words[1]) / "root.der").write_bytes(simulated_platform().root_der())
            return ""
        assert words == ("measure", "--json")
        return json.dumps({"mrenclave": "12" * 32, "mrsigner": "34" * 32})

    monkeypatch.setattr(founding, "_simulator", simulator)
    mesh = found(tmp_path / "mesh", monkeypatch, simulated=True, mrenclave=named)
    bundle = TrustBundle.read(mesh.trust)
    assert bundle.anchor.simulated
    assert bundle.mrenclave == {believed}
    assert load(VerifierSettings, mesh.settings("verifier"), {}, prefix="CLOISTER_").policy is None


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Stop, match="not empty"):
        found(tmp_path, monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mesh").mkdir()
    assert found(tmp_path / "mesh", monkeypatch).trust.is_file()


def test_what_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise Stop("the disk is full")

    monkeypatch.setattr(founding, "_write_services", broken)
    with pytest.raises(Stop, match="disk"):
        found(tmp_path / "mesh", monkeypatch)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cluster", ["", "single", "Upper.example", "a b.example"])
def test_a_cluster_is_named_like_a_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str) -> None:
    with pytest.raises(InvalidRequest, match="cluster"):
        found(tmp_path / "mesh", monkeypatch, cluster=cluster)


def test_without_the_simulator_there_is_no_simulated_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise Stop(f"there is no program '{name}' here")

    monkeypatch.setattr(founding, "executable", missing)
    with pytest.raises(Stop, match="cloister-simulator"):
        found(tmp_path / "mesh", monkeypatch, simulated=True)
    assert list(tmp_path.iterdir()) == []
