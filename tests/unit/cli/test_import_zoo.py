"""`cloister model import-zoo`: what Analytics Zoo encrypted, sealed anew; and nothing of it in clear anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli import identities, import_zoo_command, sealed_folder
from cloister.cli.mesh_folder import Mesh
from cloister.seal.model_file import open_model
from fakes import digits, zoo_encryption
from fakes.zoo_encryption import SALT, SECRET, as_their_jvm, encrypted

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("digits")
    digits.trained().save(folder)
    return {name: (folder / name).read_bytes() for name in ("model.xml", "model.bin")}


@pytest.fixture
def theirs(tmp_path: Path, plain: dict[str, bytes]) -> Path:
    """What an owner brings: encrypted files, secret and salt."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name, content in plain.items():
        (folder / f"{name}.encrypted").write_bytes(encrypted(as_their_jvm(content), "AESCBC with 128 bits"))
    for name, text in (("secret", SECRET), ("salt", SALT), ("key", zoo_encryption.DATA_KEY)):
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)
    return folder


@pytest.fixture(autouse=True)
def _open_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process goes on after the command."""
    monkeypatch.setattr(import_zoo_command, "close_memory", lambda: None)


def words(mesh: Mesh, tmp_path: Path, *more: str | Path) -> list[str | Path]:
    named = ("--name", "digits", "--version", "3", "--out", tmp_path / "sealed", "--mesh", mesh.folder)
    return ["model", "import-zoo", *named, *more]


def by_secret(tmp_path: Path) -> list[str | Path]:
    return ["--secret-file", tmp_path / "secret", "--salt-file", tmp_path / "salt"]


def opened(mesh: Mesh, folder: Path) -> dict[str, bytes]:
    _, found, key = sealed_folder.read(folder, identities.signing_key(mesh.identity("owner")))
    with (folder / "model.sealed").open("rb") as source:
        model = open_model(source, key, name="digits", version=3, digest=found.digest)
    return {name: bytes(content) for name, content in model.files.items()}


@pytest.mark.usefixtures("theirs")
def test_what_was_encrypted_there_is_sealed_here(
    run: Run, mesh: Mesh, tmp_path: Path, plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    code, said, err = run(*words(mesh, tmp_path, tmp_path / "zoo", *by_secret(tmp_path)))
    assert code == 0, err
    assert "model.xml was encrypted with AESCBC with 128 bits" in said
    assert "sealed digits@3" in said
    assert opened(mesh, tmp_path / "sealed") == plain
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.name for path in made} == {"model.sealed", "manifest.json", "manifest.signature", "model.key"}
    for content in (path.read_bytes() for path in made):
        assert b"<net" not in content
        assert plain["model.bin"][1000:1032] not in content


def test_bigdls_files_with_a_data_key(
    run: Run, mesh: Mesh, theirs: Path, tmp_path: Path, plain: dict[str, bytes]
) -> None:
    (theirs / "model.xml.encrypted").unlink()
    (theirs / "model.bin.encrypted").unlink()
    for name, content in plain.items():
        (theirs / f"{name}.cbc").write_bytes(zoo_encryption.in_container(content))
    code, said, err = run(*words(mesh, tmp_path, theirs, "--data-key-file", tmp_path / "key"))
    assert (code, "BigDL's container" in said) == (0, True), err
    assert opened(mesh, tmp_path / "sealed") == plain


def test_a_wrong_secret_is_said_in_plain_words_and_leaves_nothing(
    run: Run, mesh: Mesh, theirs: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("analytics")
    code, _, err = run(*words(mesh, tmp_path, theirs, *by_secret(tmp_path)))
    assert code == 1
    assert "another secret, salt or data key, or it is no such file" in err
    assert not (tmp_path / "sealed").exists()


def test_a_model_that_workers_would_refuse_leaves_nothing(run: Run, mesh: Mesh, theirs: Path, tmp_path: Path) -> None:
    xml = b'<net name="odd"><layers><layer id="0" name="own" type="MyOwn1" version="extension"/></layers></net>'
    (theirs / "model.xml.encrypted").write_bytes(encrypted(xml, "AESCBC with 128 bits"))
    code, said, err = run(*words(mesh, tmp_path, theirs, *by_secret(tmp_path)))
    assert (code, "was encrypted with AESCBC" in said, "MyOwn1" in err) == (1, True, True)
    assert not (tmp_path / "sealed").exists()
    assert run(*words(mesh, tmp_path, theirs, *by_secret(tmp_path), "--unchecked"))[0] == 0


def test_secrets_come_from_files_that_are_private_or_are_asked_for(
    run: Run, mesh: Mesh, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run(*words(mesh, tmp_path, theirs, "--salt-file", tmp_path / "salt"))
    assert (code, "name its file with --secret-file" in err) == (2, True)
    (tmp_path / "secret").chmod(0o644)
    code, _, err = run(*words(mesh, tmp_path, theirs, *by_secret(tmp_path)))
    assert (code, "chmod 600" in err) == (1, True)
    both = ("--data-key-file", tmp_path / "key", *by_secret(tmp_path))
    code, _, err = run(*words(mesh, tmp_path, theirs, *both))
    assert (code, "no scheme takes both" in err) == (2, True)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    typed = iter((SECRET, SALT))
    monkeypatch.setattr("getpass.getpass", lambda *_: next(typed))
    code, said, err = run(*words(mesh, tmp_path, theirs))
    assert code == 0, err
    assert SECRET not in said + err
