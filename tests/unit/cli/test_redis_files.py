"""MESH/redis as `cloister init` makes it, how its secrets are replaced, and meshes from before there was one."""

from __future__ import annotations

import hashlib
import shutil
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.cli import founding, mesh_commands, redis_commands, redis_files, running
from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh
from cloister.enclave import redis_settings, service_settings
from cloister.enclave.kinds import REDIS, Place
from cloister.gateway.settings import Settings as GatewaySettings
from cloister.kit.config import load
from cloister.verifier.settings import Settings as VerifierSettings
from fakes.founded import found

USERS = ("gateway", "verifier", "operator")
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    """A mesh that a test changes."""
    monkeypatch.setattr(redis_commands, "free_ports", lambda count, besides, first: [first + 40])
    return found(tmp_path / "mesh", monkeypatch)


def lines_of(mesh: Mesh) -> dict[str, list[str]]:
    lines = (mesh.redis_folder / "users.acl").read_text().splitlines()
    return {line.split()[1]: line.split()[2:] for line in lines}


def hash_of(mesh: Mesh, user: str) -> str:
    return f"#{hashlib.sha256((mesh.redis_folder / f'{user}.password').read_bytes()).hexdigest()}"


def without_redis(mesh: Mesh) -> Mesh:
    """The same as an older `cloister init` would have made it."""
    settings = mesh.settings("gateway")
    settings.write_text(settings.read_text().partition("\n[redis]")[0])
    for folder in (mesh.redis_folder, mesh.identity("redis")):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    older = replace(mesh, redis="")
    older.write(mesh.folder)
    return older


def test_each_user_has_a_password_that_only_its_file_tells(mesh: Mesh) -> None:
    assert lines_of(mesh)["default"] == ["off", "resetpass", "~*", "&*", "+@all"]
    for user in USERS:
        assert lines_of(mesh)[user][:2] == ["on", hash_of(mesh, user)]
    for path in mesh.redis_folder.iterdir():
        assert path.suffix == ".conf" or stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.attack("H06")
@pytest.mark.parametrize("user", USERS)
def test_no_user_may_do_all_of_anything(mesh: Mesh, user: str) -> None:
    rules = lines_of(mesh)[user][2:]
    assert "-@all" in rules
    assert [rule for rule in rules if rule.startswith("+@") or rule in ("~*", "&*", "allkeys", "allcommands")] == []


def test_what_may_wait_by_default_leaves_room_in_it(mesh: Mesh) -> None:
    lines = dict(line.split(None, 1) for line in (mesh.redis_folder / "redis.conf").read_text().splitlines() if line)
    room_bytes = int(lines["maxmemory"].removesuffix("mb")) << 20
    bounds = load(GatewaySettings, mesh.settings("gateway"), {}, prefix="CLOISTER_").jobs.bounds()
    assert 2 * bounds.tenant_bytes <= bounds.size_bytes <= room_bytes // 2


def test_gateway_and_operator_find_it(mesh: Mesh) -> None:
    settings = load(GatewaySettings, mesh.settings("gateway"), {}, prefix="CLOISTER_").redis
    assert settings is not None
    assert [str(each) for each in settings.addresses] == [mesh.redis]
    assert settings.user == "gateway"
    assert len(settings.read_shared_key()) == 32
    operator = redis_files.as_operator(mesh)
    assert operator is not None
    for each in (settings, operator):
        assert all(path.exists() for path in (each.certificate, each.private_key, each.trust_roots, each.password_file))
    assert redis_files.is_own(mesh)
    assert all(path.exists() for path in redis_files.files_read(mesh))
    assert len(redis_files.files_read(mesh)) == 5


def test_the_verifier_takes_what_it_is_told_of_it(own: Mesh) -> None:
    settings = own.settings("verifier")
    settings.write_text(settings.read_text() + founding.settings_text.redis_of(own, "verifier"))
    told = load(VerifierSettings, settings, {}, prefix="CLOISTER_").redis
    assert told is not None
    assert told.user == "verifier"
    assert told.password_file.exists()
    assert len(told.read_shared_key()) == 32


@pytest.mark.attack("H05")
def test_gateways_have_not_the_key_that_verifiers_seal_by(own: Mesh) -> None:
    values = {user: redis_files.settings_values(own, user)["shared_key"] for user in ("gateway", "verifier")}
    keys = {user: (own.settings(user).parent / path).read_bytes() for user, path in values.items()}
    assert keys["gateway"] != keys["verifier"]
    before = dict(keys)
    redis_files.rotate_shared_key(own, NOW)
    assert all((own.settings(user).parent / path).read_bytes() != before[user] for user, path in values.items())


def test_an_older_mesh_gets_what_it_lacks_with_its_new_passwords(own: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    key, users = own.redis_folder / "verifier.key", own.redis_folder / "users.acl"
    key.unlink()
    rules = lines_of(own)["gateway"][2:]
    users.write_text(users.read_text().replace(" +hgetall", "").replace(" +hlen", ""))
    redis_commands.rotate(own.folder, shared_key=False)
    assert len(key.read_bytes()) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "for verifiers alone" in capsys.readouterr().out
    assert sorted(lines_of(own)["gateway"][2:]) == sorted(rules)
    redis_commands.rotate(own.folder, shared_key=False)
    assert "for verifiers alone" not in capsys.readouterr().out


def test_the_same_configuration_is_one_for_an_enclave(mesh: Mesh) -> None:
    inside = redis_settings.rewritten(REDIS, mesh.redis_folder / redis_files.CONFIGURATION)
    assert inside.files["aclfile"] == (Place.MEASURED, service_settings.absolute(mesh.redis_folder / "users.acl"))
    assert b"appendfsync always\n" in inside.content
    assert f"tls-port {mesh.redis.rpartition(':')[2]}\n".encode() in inside.content


def test_another_redis_in_the_settings_is_not_ours(own: Mesh) -> None:
    settings = own.settings("gateway")
    settings.write_text(settings.read_text().replace(own.redis, "redis.example:6379"))
    assert not redis_files.is_own(own)


def test_passwords_are_replaced_and_other_users_are_left_alone(own: Mesh) -> None:
    users = own.redis_folder / "users.acl"
    users.write_text(users.read_text() + f"user mine on #{'ab' * 32} ~mine:* +get\n")
    before = lines_of(own)
    assert redis_files.rotate_passwords(own) == sorted(USERS)
    after = lines_of(own)
    for user in USERS:
        assert after[user][1] == hash_of(own, user) != before[user][1]
        assert after[user][2:] == before[user][2:]
    assert (after["mine"], after["default"]) == (before["mine"], before["default"])


def test_an_access_list_that_was_changed_beyond_recognition_is_left_alone(own: Mesh) -> None:
    users = own.redis_folder / "users.acl"
    users.write_text("user default off\nuser gateway on nopass ~* +@all\n")
    kept = {path: path.read_bytes() for path in own.redis_folder.iterdir()}
    with pytest.raises(Stop, match="for the user gateway with one password"):
        redis_files.rotate_passwords(own)
    assert {path: path.read_bytes() for path in own.redis_folder.iterdir()} == kept


def test_another_shared_key_puts_aside_what_was_kept_under_the_old_one(own: Mesh) -> None:
    data = own.redis_folder / redis_files.DATA
    data.mkdir()
    (data / redis_files.MANIFEST).write_text("jobs")
    old = (own.redis_folder / "shared.key").read_bytes()
    aside = redis_files.rotate_shared_key(own, NOW)
    assert (aside.name, (aside / redis_files.MANIFEST).read_text()) == ("appendonlydir.before-20261126T120000Z", "jobs")
    assert not data.exists()
    assert len((own.redis_folder / "shared.key").read_bytes()) == 32
    assert (own.redis_folder / "shared.key").read_bytes() != old


def test_the_shared_key_stays_while_the_mesh_runs(own: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "is_up", lambda _: True)
    old = (own.redis_folder / "shared.key").read_bytes()
    with pytest.raises(Stop, match="cloister down"):
        redis_commands.rotate(own.folder, shared_key=True)
    assert (own.redis_folder / "shared.key").read_bytes() == old


def test_a_mesh_without_one_is_given_one(own: Mesh) -> None:
    older = without_redis(own)
    assert not redis_files.is_own(Mesh.read(own.folder))
    assert redis_files.as_operator(older) is None
    redis_commands.add(own.folder, host=["10.0.0.7"])
    added = Mesh.read(own.folder)
    assert redis_files.is_own(added)
    test_each_user_has_a_password_that_only_its_file_tells(added)
    test_gateway_and_operator_find_it(added)
    with pytest.raises(Stop, match="left as they are"):
        redis_commands.add(own.folder)


def test_without_the_program_the_mesh_takes_no_jobs_and_says_what_to_install(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not mesh_commands._can_keep_jobs(mesh, None)
    assert "apt-get install redis-server" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "enclaves" / "redis").mkdir(parents=True)
    assert mesh_commands._can_keep_jobs(mesh, tmp_path / "enclaves")
    monkeypatch.setattr(redis_files, "url_of_jobs", lambda _: "rediss://redis.example:6379")
    assert mesh_commands._can_keep_jobs(mesh, None)  # it is not ours to start
    assert capsys.readouterr().err == ""
