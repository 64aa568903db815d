"""What is said before anything is sent: files that are missing, that have expired, or that do not belong together."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloister.client import Client, MeshFolder, OwnerClient, TrustBundle, signing_key
from cloister.client.reaching import check_address
from cloister.errors import CloisterError, InvalidRequest, NotFound, NotReady, Unauthenticated
from cloister.rpc.identity import TlsFiles
from fakes.pki import MeshPki
from fakes.serving import FakeVerifier
from fakes.sim import CLUSTER

PKI = MeshPki(CLUSTER)


def trust(folder: Path) -> Path:
    path = folder / "trust.json"
    path.write_bytes(FakeVerifier().trust().to_json())
    return path


async def refused(trusted: TrustBundle | Path, identity: TlsFiles | Path) -> CloisterError:
    with pytest.raises(CloisterError) as error:
        async with Client.connect("127.0.0.1:1", trust=trusted, identity=identity):
            raise AssertionError("unreachable")
    return error.value


async def test_a_trust_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = await refused(tmp_path / "trust.json", PKI.identity("client", "ann").write(tmp_path))
    assert isinstance(error, NotFound)
    assert str(tmp_path / "trust.json") in str(error)


async def test_another_file_is_no_trust_bundle(tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_text(json.dumps({"format": "something else"}))
    error = await refused(tmp_path / "trust.json", PKI.identity("client", "ann").write(tmp_path))
    assert isinstance(error, InvalidRequest)
    assert "not a trust bundle" in str(error)


async def test_an_identity_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = await refused(trust(tmp_path), tmp_path / "ann")
    assert isinstance(error, NotFound)
    assert "cloister identity issue" in str(error)


@pytest.mark.parametrize("begins_in", [timedelta(days=-2), timedelta(days=2)])
async def test_a_certificate_that_is_not_valid_now_is_told_by_us_since_a_gateway_only_hangs_up(
    tmp_path: Path, begins_in: timedelta
) -> None:
    made = PKI.identity("client", "ann", now=datetime.now(UTC) + begins_in).write(tmp_path)
    error = await refused(trust(tmp_path), made)
    assert isinstance(error, Unauthenticated)
    assert error.reason == "identity.expired"
    assert "cloister identity renew" in str(error)


async def test_trust_and_identity_are_of_one_mesh(tmp_path: Path) -> None:
    other = MeshPki("other.cloister.internal").identity("client", "ann").write(tmp_path)
    error = await refused(trust(tmp_path), other)
    assert isinstance(error, InvalidRequest)
    assert error.reason == "trust.other_mesh"
    assert "other.cloister.internal" in str(error)


def mesh_folder(folder: Path, *names: str) -> MeshFolder:
    (folder / "mesh.toml").write_text('[addresses]\ngateway = "a:1"\nverifier = "b:2"\nprovisioner = "c:3"\n')
    for name in names:
        (folder / "identities" / "client" / name).mkdir(parents=True)
    return MeshFolder.read(folder)


@pytest.mark.parametrize(("names", "taken"), [(("ann",), "ann"), (("ann", "main"), "main")])
def test_a_mesh_folder_says_where_everything_is(tmp_path: Path, names: tuple[str, ...], taken: str) -> None:
    mesh = mesh_folder(tmp_path, *names)
    assert (mesh.gateway, mesh.verifier, mesh.provisioner) == ("a:1", "b:2", "c:3")
    assert mesh.identity("client") == tmp_path / "identities" / "client" / taken
    assert mesh.trust == tmp_path / "trust.json"


@pytest.mark.parametrize(("names", "said"), [((), "none"), (("ann", "bob"), "ann, bob")])
def test_an_identity_is_not_guessed(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(NotFound, match=said):
        mesh_folder(tmp_path, *names).identity("client")


def test_a_folder_that_is_no_mesh_folder_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cloister identity issue"):
        MeshFolder.read(tmp_path)
    (tmp_path / "mesh.toml").write_text("gateway = 1")
    with pytest.raises(InvalidRequest, match="does not parse"):
        MeshFolder.read(tmp_path)


def test_a_signing_key_is_one_and_its_owners_alone(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="owner"):
        signing_key(tmp_path)
    files = PKI.identity("client", "ann").write(tmp_path)
    with pytest.raises(InvalidRequest, match="Ed25519"):
        signing_key(files.private_key)
    files.private_key.chmod(0o644)
    with pytest.raises(NotReady):
        signing_key(files.private_key)


async def test_an_owner_without_a_signing_key_is_told_before_connecting(tmp_path: Path) -> None:
    PKI.identity("owner", "olga").write(tmp_path)
    with pytest.raises(NotFound, match="signing key"):
        async with OwnerClient.connect("127.0.0.1:1", identity=tmp_path):
            raise AssertionError("unreachable")


@pytest.mark.parametrize(
    "address", ["gateway", "https://gateway:8440", "gateway:", ":8440", "gateway:70000", "g:https"]
)
def test_an_address_is_host_and_port(address: str) -> None:
    check_address("[::1]:8440")
    with pytest.raises(InvalidRequest, match="HOST:PORT") as raised:
        check_address(address)
    assert raised.value.reason == "address.invalid"
