from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.errors import InvalidRequest, NotReady
from cloister.rpc.certificates import Authority, intermediate_ca, key_pem, new_key, root_ca, spki
from cloister.verifier.mesh_ca import MeshCa
from fakes.pki import CLUSTER, MeshPki

NOW = datetime.now(UTC).replace(microsecond=0)
INSTANCE = "ab" * 16


@pytest.fixture(scope="module")
def pki() -> MeshPki:
    return MeshPki(now=NOW)


def write(pki: MeshPki, folder: Path, *, mode: int = 0o600, key: bytes | None = None) -> tuple[Path, Path]:
    certificate, private = folder / "ca.pem", folder / "ca.key"
    certificate.write_bytes(pki.attested.certificate_pem)
    private.write_bytes(key_pem(pki.attested.key) if key is None else key)
    private.chmod(mode)
    return certificate, private


def test_no_certificate_lives_longer_than_an_hour(pki: MeshPki) -> None:
    ca = MeshCa(pki.attested, CLUSTER)
    chain = ca.certify(spki(new_key().public_key()), INSTANCE, now=NOW, life=timedelta(days=1))
    leaf = x509.load_pem_x509_certificate(chain)
    assert leaf.not_valid_after_utc == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    "key",
    [b"", b"not a key", spki(ec.generate_private_key(ec.SECP384R1()).public_key())],
    ids=["empty", "junk", "P-384"],
)
def test_only_p256_keys_are_certified(pki: MeshPki, key: bytes) -> None:
    with pytest.raises(InvalidRequest):
        MeshCa(pki.attested, CLUSTER).certify(key, INSTANCE, now=NOW, life=timedelta(hours=1))


@pytest.mark.parametrize("instance", ["", "../x", "a/b", "UPPER"])
def test_only_names_are_certified(pki: MeshPki, instance: str) -> None:
    with pytest.raises(InvalidRequest):
        MeshCa(pki.attested, CLUSTER).certify(spki(new_key().public_key()), instance, now=NOW, life=timedelta(hours=1))


def test_an_expired_authority_certifies_nobody(pki: MeshPki) -> None:
    late = pki.attested.certificate.not_valid_after_utc
    with pytest.raises(NotReady) as refused:
        MeshCa(pki.attested, CLUSTER).certify(spki(new_key().public_key()), INSTANCE, now=late, life=timedelta(hours=1))
    assert refused.value.reason == "ca.expired"


def test_it_opens_from_files(pki: MeshPki, tmp_path: Path) -> None:
    ca = MeshCa.opened(*write(pki, tmp_path), cluster=CLUSTER)
    assert ca.server_name(INSTANCE) == f"{INSTANCE}.worker.{CLUSTER}"
    assert "key" not in repr(ca)


def test_a_key_that_others_can_read_is_refused(pki: MeshPki, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="open to other users"):
        MeshCa.opened(*write(pki, tmp_path, mode=0o640), cluster=CLUSTER)


def test_a_key_of_another_certificate_is_refused(pki: MeshPki, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="not the one"):
        MeshCa.opened(*write(pki, tmp_path, key=key_pem(new_key())), cluster=CLUSTER)


def test_a_certificate_that_is_not_there_is_refused(pki: MeshPki, tmp_path: Path) -> None:
    certificate, private = write(pki, tmp_path)
    certificate.unlink()
    with pytest.raises(NotReady, match="cannot be read"):
        MeshCa.opened(certificate, private, cluster=CLUSTER)


def replaced(pki: MeshPki, folder: Path, root: Authority | None = None) -> Authority:
    """Put a new authority in the files."""
    new = intermediate_ca(root or pki.root, CLUSTER, now=NOW)
    (folder / "ca.key").write_bytes(key_pem(new.key))
    (folder / "ca.pem").write_bytes(new.certificate_pem)
    return new


@pytest.mark.attack("J08")
def test_a_new_authority_is_taken_over_and_what_the_old_one_signed_stays_good(pki: MeshPki, tmp_path: Path) -> None:
    ca = MeshCa.opened(*write(pki, tmp_path), cluster=CLUSTER)
    key = spki(new_key().public_key())
    before = ca.certify(key, INSTANCE, now=NOW, life=timedelta(hours=1))
    new = replaced(pki, tmp_path)
    ca.look(pki.roots_pem)
    after = ca.certify(key, INSTANCE, now=NOW, life=timedelta(hours=1))
    for chain, authority in ((before, pki.attested), (after, new)):
        leaf, intermediate = x509.load_pem_x509_certificates(chain)
        assert intermediate == authority.certificate
        leaf.verify_directly_issued_by(intermediate)
        intermediate.verify_directly_issued_by(pki.root.certificate)


def test_two_files_that_do_not_fit_yet_are_left_for_the_next_look(pki: MeshPki, tmp_path: Path) -> None:
    ca = MeshCa.opened(*write(pki, tmp_path), cluster=CLUSTER)
    new = replaced(pki, tmp_path)
    (tmp_path / "ca.pem").write_bytes(pki.attested.certificate_pem)
    ca.look(pki.roots_pem)
    assert ca.authority.certificate == pki.attested.certificate
    (tmp_path / "ca.pem").write_bytes(new.certificate_pem)
    ca.look(pki.roots_pem)
    assert ca.authority.certificate == new.certificate


def test_an_authority_that_no_root_of_the_mesh_signed_is_not_taken_over(pki: MeshPki, tmp_path: Path) -> None:
    ca = MeshCa.opened(*write(pki, tmp_path), cluster=CLUSTER)
    other = root_ca(CLUSTER, now=NOW)
    new = replaced(pki, tmp_path, other)
    ca.look(pki.roots_pem)
    assert ca.authority.certificate == pki.attested.certificate
    ca.look(pki.roots_pem + other.certificate_pem)  # while the root itself is replaced, both are trusted
    assert ca.authority.certificate == new.certificate
