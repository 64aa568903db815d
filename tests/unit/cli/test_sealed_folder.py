"""What `model seal` leaves, and what `model publish` accepts of it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cloister.cli import identities, sealed_folder
from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh
from cloister.errors import AlreadyExists, CloisterError, Unavailable

Run = Callable[..., tuple[int, str, str]]
CONTENT = b"<net name='canary'/>"


@pytest.fixture
def sealed(run: Run, mesh: Mesh, tmp_path: Path) -> Path:
    (tmp_path / "model.xml").write_bytes(CONTENT)
    (tmp_path / "model.bin").write_bytes(b"weights")
    folder = tmp_path / "sealed"
    options = ("--name", "iris", "--version", "2", "--unchecked", "--out", folder, "--mesh", mesh.folder)
    code, out, _ = run("model", "seal", tmp_path / "model.xml", tmp_path / "model.bin", *options)
    assert code == 0
    assert "iris@2" in out
    return folder


def read(mesh: Mesh, folder: Path) -> object:
    return sealed_folder.read(folder, identities.signing_key(mesh.identity("owner")))


def test_it_holds_nothing_in_clear_and_the_key_is_private(sealed: Path) -> None:
    for path in sealed.iterdir():
        assert CONTENT not in path.read_bytes()
    assert stat.S_IMODE((sealed / "model.key").stat().st_mode) == 0o600
    assert (sealed / "model.key").read_bytes() not in (sealed / "model.sealed").read_bytes()


def test_it_is_read_back_and_placed_where_workers_look(mesh: Mesh, sealed: Path, tmp_path: Path) -> None:
    signer = identities.signing_key(mesh.identity("owner"))
    _, manifest, key = sealed_folder.read(sealed, signer)
    assert (manifest.name, manifest.version) == ("iris", 2)
    assert key.reveal() == (sealed / "model.key").read_bytes()
    with sealed_folder.placing(sealed, tmp_path / "models", manifest) as placed:
        assert placed == tmp_path / "models" / "iris" / "2" / "model.sealed"
        assert placed.read_bytes() == (sealed / "model.sealed").read_bytes(), "before it is registered"
    assert [path.name for path in placed.parent.iterdir()] == ["model.sealed"]


@pytest.mark.parametrize(("error", "stays"), [(AlreadyExists("registered"), False), (Unavailable("no answer"), True)])
def test_what_is_refused_is_taken_back_and_what_may_be_registered_is_not(
    mesh: Mesh, sealed: Path, tmp_path: Path, error: CloisterError, stays: bool
) -> None:
    _, manifest, _ = sealed_folder.read(sealed, identities.signing_key(mesh.identity("owner")))
    with (
        pytest.raises(type(error)),
        sealed_folder.placing(sealed, tmp_path / "models", manifest) as placed,
    ):
        raise error
    assert placed.exists() is stays


@pytest.mark.parametrize("refused", [True, False])
def test_a_file_that_may_be_served_is_replaced_by_what_was_registered_only(
    mesh: Mesh, sealed: Path, tmp_path: Path, refused: bool
) -> None:
    _, manifest, _ = sealed_folder.read(sealed, identities.signing_key(mesh.identity("owner")))
    target = tmp_path / "models" / "iris" / "2" / "model.sealed"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"another")
    with suppress(AlreadyExists), sealed_folder.placing(sealed, tmp_path / "models", manifest):
        assert target.read_bytes() == b"another"
        if refused:
            raise AlreadyExists("registered, with other content")
    assert (target.read_bytes() == b"another") is refused
    assert [path.name for path in target.parent.iterdir()] == ["model.sealed"]


def test_a_folder_that_exists_is_not_written_to(run: Run, mesh: Mesh, sealed: Path, tmp_path: Path) -> None:
    before = (sealed / "model.sealed").read_bytes()
    options = ("--name", "iris", "--out", sealed, "--mesh", mesh.folder)
    code, _, err = run("model", "seal", tmp_path / "model.xml", tmp_path / "model.bin", *options)
    assert code == 2
    assert "exists; name a new folder with --out" in err
    assert (sealed / "model.sealed").read_bytes() == before


def test_what_cannot_be_sealed_leaves_no_folder_behind(run: Run, mesh: Mesh, sealed: Path, tmp_path: Path) -> None:
    options = ("--name", "No Name", "--unchecked", "--out", tmp_path / "other", "--mesh", mesh.folder)
    code, _, err = run("model", "seal", tmp_path / "model.xml", tmp_path / "model.bin", *options)
    assert (code, "model name" in err) == (1, True)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["model.sealed", "manifest.json", "manifest.signature", "model.key"])
def test_what_is_missing_or_changed_is_not_published(mesh: Mesh, sealed: Path, name: str) -> None:
    content = (sealed / name).read_bytes()
    (sealed / name).write_bytes(bytes([content[0] ^ 1]) + content[1:] if name != "model.key" else content[:-1])
    with pytest.raises((Stop, CloisterError)):
        read(mesh, sealed)
    (sealed / name).unlink()
    with pytest.raises((Stop, CloisterError)):
        read(mesh, sealed)


def test_a_key_that_others_can_read_is_refused(mesh: Mesh, sealed: Path) -> None:
    (sealed / "model.key").chmod(0o644)
    with pytest.raises(CloisterError, match="chmod 600"):
        read(mesh, sealed)
