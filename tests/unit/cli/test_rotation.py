"""Renewing and rotating on disk; that running services take it up is for tests/mesh to show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from cloister.cli import identities
from cloister.cli.identities import new_ed25519_pem
from cloister.cli.mesh_folder import Mesh
from cloister.client import TrustBundle
from fakes.founded import found
from fakes.running_services import private_file

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    """One that a test may change."""
    return found(tmp_path / "mesh", monkeypatch)


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())


def names(of: x509.Certificate) -> x509.SubjectAlternativeName:
    return of.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


@pytest.mark.parametrize("role", ["gateway", "owner"])
def test_a_renewed_identity_has_the_same_names_and_another_key(run: Run, mesh: Mesh, role: str) -> None:
    folder = mesh.identity(role)
    before, signs_with = certificate(folder), identities.described(folder).owner_key
    code, said, _ = run("identity", "renew", folder, "--mesh", mesh.folder, "--days", "30")
    after = certificate(folder)
    assert (code, f"/{role}/main good until" in said) == (0, True)
    assert names(after) == names(before)
    assert after.public_key() != before.public_key()
    assert identities.described(folder).owner_key == signs_with
    assert (folder / "private_key.pem").stat().st_mode & 0o777 == 0o600
    assert not list(folder.glob(".*"))


def test_all_identities_are_renewed_at_once(run: Run, mesh: Mesh) -> None:
    before = {each.folder: certificate(each.folder).serial_number for each in identities.listed(mesh)}
    assert run("identity", "renew", "--all", "--mesh", mesh.folder)[0] == 0
    after = {each.folder: certificate(each.folder).serial_number for each in identities.listed(mesh)}
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    assert run("identity", "renew", "--mesh", mesh.folder)[0] == 2


def test_only_who_has_the_roots_key_renews(run: Run, mesh: Mesh) -> None:
    (mesh.folder / "pki" / "root_ca.key").unlink()
    for words in (("identity", "renew", "--all"), ("ca", "rotate")):
        code, _, error = run(*words, "--mesh", mesh.folder)
        assert (code, "root_ca.key is not here" in error) == (2, True)


def test_a_rotated_authority_is_under_the_same_root(run: Run, mesh: Mesh) -> None:
    path = mesh.folder / "verifier" / "attested_ca.pem"
    before = x509.load_pem_x509_certificate(path.read_bytes())
    assert run("ca", "rotate", "--mesh", mesh.folder)[0] == 0
    after = x509.load_pem_x509_certificate(path.read_bytes())
    assert after.public_key() != before.public_key()
    root = x509.load_pem_x509_certificate((mesh.folder / "pki" / "root_ca.pem").read_bytes())
    after.verify_directly_issued_by(root)


def kids(run: Run, mesh: Mesh) -> dict[str, tuple[int, int]]:
    _, said, _ = run("verifier", "keys", "--mesh", mesh.folder, "--json")
    return {row["kid"]: (row["nbf"], row["exp"]) for row in json.loads(said)["keys"]}


def test_a_new_key_begins_when_the_one_before_ends(run: Run, mesh: Mesh) -> None:
    (old,) = kids(run, mesh)
    code, said, _ = run("verifier", "rotate-key", "--mesh", mesh.folder, "--lead", "120")
    new = said.split()[0]
    found = kids(run, mesh)
    assert code == 0
    assert found.keys() == {old, new}
    assert found[old][1] == found[new][0]
    assert (mesh.signing_keys / f"{new}.key").stat().st_mode & 0o777 == 0o600
    bundle = TrustBundle.read(mesh.trust)
    assert bundle.keys().thumbprints == bundle.thumbprints == {old, new}


def test_a_rotation_that_would_begin_before_the_one_that_is_planned_is_refused(run: Run, mesh: Mesh) -> None:
    assert run("verifier", "rotate-key", "--mesh", mesh.folder, "--lead", "3600")[0] == 0
    planned = kids(run, mesh)
    code, _, error = run("verifier", "rotate-key", "--mesh", mesh.folder, "--lead", "60")
    assert (code, "--lead" in error) == (1, True)
    assert kids(run, mesh) == planned


@pytest.mark.attack("E09")
def test_a_key_is_named_only_by_who_may(run: Run, mesh: Mesh, tmp_path: Path) -> None:
    before = kids(run, mesh)
    stranger = private_file(tmp_path / "stranger.key", new_ed25519_pem())
    code, _, error = run("verifier", "rotate-key", "--mesh", mesh.folder, "--sign", stranger)
    assert (code, "1 must" in error) == (1, True)
    assert kids(run, mesh) == before
    assert len(list(mesh.signing_keys.glob("*.key"))) == 1


def trusted(folder: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((folder / "trust_roots.pem").read_bytes())


def test_a_new_root_is_trusted_then_used_then_alone(run: Run, mesh: Mesh) -> None:
    folder, path = mesh.identity("gateway"), mesh.folder / "pki" / "root_ca.pem"
    old = x509.load_pem_x509_certificate(path.read_bytes())
    assert run("ca", "drop-root", "--mesh", mesh.folder)[0] == 2
    assert run("ca", "use-root", "--mesh", mesh.folder)[0] == 2
    assert run("ca", "add-root", "--mesh", mesh.folder)[0] == 0
    assert run("ca", "add-root", "--mesh", mesh.folder)[0] == 2
    first, new = trusted(folder)
    assert first == old
    certificate(folder).verify_directly_issued_by(old)
    assert run("ca", "use-root", "--mesh", mesh.folder)[0] == 0
    certificate(folder).verify_directly_issued_by(new)
    authority = x509.load_pem_x509_certificate((mesh.folder / "verifier" / "attested_ca.pem").read_bytes())
    authority.verify_directly_issued_by(new)
    assert trusted(folder) == [old, new]
    assert run("ca", "drop-root", "--mesh", mesh.folder)[0] == 0
    assert trusted(folder) == [new]
    assert TrustBundle.read(mesh.trust).root_ca_pem.encode() == path.read_bytes()
    assert sorted(each.name for each in (mesh.folder / "pki").iterdir()) == [
        "root_ca.key",
        "root_ca.pem",
        "verifier_keys.key",
    ]
