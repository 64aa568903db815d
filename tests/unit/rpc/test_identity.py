"""Identities from files and in memory; who may read a key file (J05); who a context says the peer is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from cloister.errors import CloisterError, InvalidRequest, NotReady, Unauthenticated
from cloister.rpc import certificates
from cloister.rpc.files import read_private
from cloister.rpc.identity import TlsIdentity, peer_identity, spki_sha256
from fakes.pki import MeshPki


@pytest.fixture(scope="module")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key.pem"
    file.touch(mode=0o600)
    file.write_bytes(b"secret")
    return file


def test_a_key_of_ones_own_is_read(key_file: Path) -> None:
    assert read_private(key_file) == b"secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_a_key_that_lies_open_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(NotReady, match="open to other users") as caught:
        read_private(key_file)
    assert caught.value.reason == "file.exposed"


def test_a_key_of_another_user_is_refused(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(key_file, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(NotReady, match="belongs to another user"):
        read_private(key_file)


def test_a_link_out_of_the_folder_is_refused_and_one_inside_followed(key_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    (folder / "..data").mkdir(parents=True)
    inside = folder / "..data" / "key.pem"
    inside.touch(mode=0o600)
    (folder / "key.pem").symlink_to("..data/key.pem")
    assert read_private(folder / "key.pem") == b""
    (folder / "other.pem").symlink_to(key_file)
    with pytest.raises(NotReady, match="out of its folder"):
        read_private(folder / "other.pem")


@pytest.mark.parametrize("what", ["missing", "folder", "pipe", "huge"])
def test_what_is_not_a_small_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    if what == "pipe":
        os.mkfifo(path, 0o600)
    if what == "huge":
        path.touch(mode=0o600)
        os.truncate(path, 2 << 20)
    with pytest.raises(NotReady):
        read_private(path)


def test_a_key_that_is_another_certificates_is_refused(pki: MeshPki) -> None:
    one, other = pki.identity("gateway", "g1"), pki.identity("gateway", "g1")
    with pytest.raises(InvalidRequest, match="not the one"):
        TlsIdentity.held(one.certificate, other.private_key, pki.roots_pem)


def test_a_replacement_must_be_whole_and_the_same_identity(pki: MeshPki) -> None:
    identity = pki.identity("gateway", "g1").held()
    for wrong in (pki.identity("gateway", "g2"), pki.identity("verifier", "g1")):
        with pytest.raises(InvalidRequest, match="another identity"):
            identity.replace(wrong.certificate, wrong.private_key)
    again = pki.identity("gateway", "g1")
    with pytest.raises(InvalidRequest):
        identity.replace(again.certificate, pki.identity("gateway", "g1").private_key)
    assert identity.generation == 1
    identity.replace(again.certificate, again.private_key)
    identity.replace(again.certificate, again.private_key)
    assert identity.generation == 2
    assert str(identity.spiffe_id) == f"spiffe://{pki.cluster}/gateway/g1"


async def test_half_a_replacement_on_disk_is_waited_for(pki: MeshPki, tmp_path: Path) -> None:
    first, second = pki.identity("gateway", "g1"), pki.identity("gateway", "g1")
    files = first.write(tmp_path)
    async with TlsIdentity.watching(files, poll_s=0.001) as identity:
        files.certificate.write_bytes(second.certificate)
        with pytest.raises(CloisterError):
            identity.look(files)
        assert identity.certificate == first.certificate
        files.private_key.write_bytes(second.private_key)
        await identity.changed(1)
        assert identity.certificate == second.certificate


async def test_a_missing_file_is_named(pki: MeshPki, tmp_path: Path) -> None:
    files = pki.identity("gateway", "g1").write(tmp_path)
    files.trust_roots.unlink()
    with pytest.raises(NotReady, match=r"roots\.pem"):
        async with TlsIdentity.watching(files):
            pass


class Context:
    def __init__(self, pem: bytes | None) -> None:
        self.pem = pem

    def auth_context(self) -> dict[str, Any]:
        return {} if self.pem is None else {"x509_pem_cert": [self.pem]}


def test_the_peer_is_who_its_certificate_names(pki: MeshPki) -> None:
    pem = pki.identity("worker", "a" * 32).certificate
    peer = peer_identity(Context(pem))
    assert peer.spiffe_id == f"spiffe://{pki.cluster}/worker/{'a' * 32}"
    assert (peer.cluster, peer.role, peer.name) == (pki.cluster, "worker", "a" * 32)
    leaf = certificates.load_certificate(pem)
    assert peer.expires_at == leaf.not_valid_after_utc.timestamp()
    assert peer.spki_sha256 == spki_sha256(pem) == hashlib.sha256(certificates.spki(leaf.public_key())).digest()  # type: ignore[arg-type]  # P-256


@pytest.mark.parametrize("pem", [None, b"", b"not a certificate"])
def test_nobody_is_nobody(pem: bytes | None) -> None:
    with pytest.raises(Unauthenticated):
        peer_identity(Context(pem))


def test_an_identity_hides_its_key(pki: MeshPki) -> None:
    pems = pki.identity("gateway", "g1")
    assert pems.private_key.decode() not in repr(vars(pems.held()))
