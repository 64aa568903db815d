"""Settings as an enclave has them: what is copied, what is linked, what is refused."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cloister.enclave.configuration import configuration_here, link, make_state_key, take_configuration
from cloister.enclave.kinds import GATEWAY, KINDS, PROVISIONER, REDIS, VERIFIER, WORKER, Kind
from cloister.errors import InvalidRequest, NotReady
from fakes.enclave_folder import write_settings

KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def settings(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "mesh" / "settings.toml").read_text())


@KIND
def test_the_measured_part_is_the_same_wherever_the_settings_lie(kind: Kind, tmp_path: Path) -> None:
    for each in ("here", "there/deeper"):
        take_configuration(kind, write_settings(tmp_path / each / "service", kind), tmp_path / each / "enclave")
    mesh = everything(tmp_path / "here" / "enclave" / "mesh")
    assert mesh == everything(tmp_path / "there/deeper" / "enclave" / "mesh")
    assert set(kind.measured) - {"anchor_root", "collateral_ca_file", "otlp_ca"} <= set(mesh)
    assert str(tmp_path).encode() not in b"".join(mesh.values())


@KIND
def test_on_another_machine_it_is_told_where_that_has_the_same_files(kind: Kind, tmp_path: Path) -> None:
    take_configuration(kind, write_settings(tmp_path / "where/it/was/built", kind), tmp_path / "enclave")
    here = configuration_here(kind, write_settings(tmp_path / "here", kind), tmp_path / "enclave")
    assert here == take_configuration(kind, tmp_path / "here" / _file_name(kind), tmp_path / "again")


@pytest.mark.parametrize(
    ("kind", "changed", "to"),
    [
        (WORKER, 'models = ["digits"]', 'models = ["letters"]'),
        (VERIFIER, "0.0.0.0:7001", "0.0.0.0:7009"),
        (PROVISIONER, "0.0.0.0:7002", "0.0.0.0:7009"),
        (GATEWAY, "slots = 4", "slots = 5"),
        (REDIS, "maxmemory 256mb", "maxmemory 512mb"),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)
def test_other_settings_than_it_was_built_from_are_refused_there(
    kind: Kind, changed: str, to: str, tmp_path: Path
) -> None:
    take_configuration(kind, write_settings(tmp_path / "built", kind), tmp_path / "enclave")
    other = write_settings(tmp_path / "here", kind, changed=changed, to=to)
    with pytest.raises(InvalidRequest, match="was built from other settings") as refused:
        configuration_here(kind, other, tmp_path / "enclave")
    assert refused.value.reason == "settings.differ"


def _file_name(kind: Kind) -> str:
    return "redis.conf" if kind is REDIS else "settings.toml"


@KIND
def test_order_and_comments_of_the_settings_are_not_measured(kind: Kind, tmp_path: Path) -> None:
    file = write_settings(tmp_path / "service", kind)
    take_configuration(kind, file, tmp_path / "enclave")
    before = everything(tmp_path / "enclave" / "mesh")
    head, table, tables = file.read_text().partition("\n[")
    file.write_text("\n".join(["# another comment", *reversed(head.splitlines())]) + table + tables)
    take_configuration(kind, file, tmp_path / "enclave")
    assert everything(tmp_path / "enclave" / "mesh") == before


def test_each_file_is_where_the_kind_places_it(tmp_path: Path) -> None:
    configuration = take_configuration(VERIFIER, write_settings(tmp_path / "service", VERIFIER), tmp_path / "enclave")
    inside = settings(tmp_path / "enclave")
    assert configuration.settings == "/cloister/mesh/settings.toml"
    assert inside["ca_certificate"] == "/cloister/mesh/ca_certificate"
    assert inside["ca_private_key"] == "/cloister/sealed/ca_private_key"
    assert inside["state_dir"] == "/cloister/state/state_dir"
    assert inside["tls"]["certificate"] == "/cloister/host/tls.certificate"
    assert inside["redis"]["shared_key"] == "/cloister/sealed/redis.shared_key"
    assert (tmp_path / "enclave/mesh/policy").read_text() == "content of policy.toml"
    assert (tmp_path / "enclave/host/collateral").read_text() == "content of collateral.json"
    assert (tmp_path / "enclave/import/signing_keys/first.key").read_text() == "content of signing_keys/first.key"
    assert "state_dir" not in configuration.secrets
    assert configuration.secrets["state.key"] == tmp_path / "service/state.key"
    assert not list((tmp_path / "enclave/mesh").rglob("*key"))


@pytest.mark.parametrize("kind", [WORKER, PROVISIONER], ids=lambda kind: kind.name)
def test_keys_that_nobody_signs_are_measured_where_they_are_all_that_is_pinned(kind: Kind, tmp_path: Path) -> None:
    pins = {"worker": "", "provisioner": f'verifier_thumbprints = ["{"A" * 43}"]'}[kind.name]
    file = write_settings(tmp_path / "service", kind, changed=f'key_signers = ["{"5a" * 32}"]', to=pins)
    take_configuration(kind, file, tmp_path / "enclave")
    measured = kind is WORKER  # the provisioner's settings pin each key by its thumbprint
    assert (tmp_path / "enclave/mesh/verifier_keys").exists() is measured
    assert (tmp_path / "enclave/host/verifier_keys").is_symlink() is not measured


def test_a_file_of_the_host_that_is_replaced_is_followed_through_links_in_its_path(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "service", WORKER)
    (tmp_path / "service/tls").rename(tmp_path / "service/first")
    (tmp_path / "service/tls").symlink_to("first")
    take_configuration(WORKER, file, tmp_path / "enclave")
    (tmp_path / "service/second").mkdir()
    (tmp_path / "service/second/certificate.pem").write_text("renewed")
    (tmp_path / "service/next").symlink_to("second")
    (tmp_path / "service/next").rename(tmp_path / "service/tls")
    assert (tmp_path / "enclave/host/tls.certificate").read_text() == "renewed"


def test_a_file_that_names_others_beside_it_comes_with_its_folder(tmp_path: Path) -> None:
    take_configuration(GATEWAY, write_settings(tmp_path / "service", GATEWAY), tmp_path / "enclave")
    assert settings(tmp_path / "enclave")["tenants_file"] == "/cloister/host/tenants_file/tenants.toml"
    assert (tmp_path / "enclave/host/tenants_file/keys.json").exists()


def test_the_hosts_files_need_not_be_there_for_who_makes_the_measured_part_again(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "service", VERIFIER)
    take_configuration(VERIFIER, file, tmp_path / "enclave")
    before = everything(tmp_path / "enclave/mesh")
    for name in ("collateral.json", "attested_ca.key", "tls/certificate.pem"):
        (tmp_path / "service" / name).unlink()
    take_configuration(VERIFIER, file, tmp_path / "enclave")
    assert everything(tmp_path / "enclave/mesh") == before


def test_a_measured_file_that_is_missing_is_named(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "service", VERIFIER)
    (tmp_path / "service/policy.toml").unlink()
    with pytest.raises(NotReady, match=r"policy: .*policy.toml cannot be read") as refused:
        take_configuration(VERIFIER, file, tmp_path / "enclave")
    assert refused.value.reason == "measured.unreadable"


def test_what_was_configured_before_is_gone_and_state_stays(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "service", VERIFIER)
    take_configuration(VERIFIER, file, tmp_path / "enclave")
    (tmp_path / "enclave/host/state/kept").write_text("encrypted")
    (tmp_path / "enclave/mesh/policy_of_yesterday").write_text("x")
    file.write_text(file.read_text().replace('policy = "policy.toml"', ""))
    take_configuration(VERIFIER, file, tmp_path / "enclave")
    assert not (tmp_path / "enclave/mesh/policy_of_yesterday").exists()
    assert not (tmp_path / "enclave/mesh/policy").exists()
    assert (tmp_path / "enclave/host/state/kept").read_text() == "encrypted"


@KIND
def test_a_key_is_made_once_for_what_keeps_a_state_and_sets_its_key(kind: Kind, tmp_path: Path) -> None:
    configuration = take_configuration(kind, write_settings(tmp_path / "service", kind), tmp_path / "enclave")
    key = tmp_path / "service/state.key"
    key.unlink()
    make_state_key(configuration)
    assert key.exists() is (kind in (VERIFIER, PROVISIONER))
    if key.exists():
        made = key.read_bytes()
        assert (len(made), stat.S_IMODE(key.stat().st_mode)) == (16, 0o600)
        make_state_key(configuration)
        assert key.read_bytes() == made
        assert (tmp_path / "enclave/import/state.key").read_bytes() == made


def test_who_has_not_the_other_secrets_gets_no_key(tmp_path: Path) -> None:
    configuration = take_configuration(PROVISIONER, write_settings(tmp_path / "s", PROVISIONER), tmp_path / "enclave")
    for name in ("state.key", "root.key"):
        (tmp_path / "s" / name).unlink()
    make_state_key(configuration)
    assert not (tmp_path / "s/state.key").exists()


def test_links_can_be_made_anew_on_another_machine(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "service", WORKER)
    configuration = take_configuration(WORKER, file, tmp_path / "enclave")
    (tmp_path / "enclave/host/models_dir").unlink()
    link(configuration, tmp_path / "enclave")
    assert (tmp_path / "enclave/host/models_dir").readlink() == tmp_path / "models"


def test_what_has_one_value_in_an_enclave_has_it_whether_or_not_the_settings_say_so(tmp_path: Path) -> None:
    take_configuration(VERIFIER, write_settings(tmp_path / "service", VERIFIER), tmp_path / "verifier")
    assert settings(tmp_path / "verifier")["appraisal_processes"] == 0
    file = write_settings(tmp_path / "service", GATEWAY, changed='routing = "', to='front = "auto"\nrouting = "')
    take_configuration(GATEWAY, file, tmp_path / "gateway")
    assert settings(tmp_path / "gateway")["front"] == "grpc"


def test_a_gateway_in_an_enclave_keeps_no_jobs_whatever_its_settings_say(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "service", GATEWAY)
    names = ("trust_roots", "certificate", "private_key", "password_file", "shared_key")
    files = "".join(f'{name} = "redis-{name}"\n' for name in names)
    file.write_text(
        file.read_text() + f'[redis]\nurl = "rediss://r:6379"\nuser = "gateway"\n{files}[jobs]\nattempts = 3\n'
    )
    configuration = take_configuration(GATEWAY, file, tmp_path / "gateway")
    assert not {"redis", "jobs"} & settings(tmp_path / "gateway").keys()
    assert not any("redis" in name for name in {**configuration.host, **configuration.secrets})


@pytest.mark.parametrize(
    ("kind", "line", "named"),
    [
        (VERIFIER, "appraisal_processes = 2", "appraisal_processes: must be 0"),
        (VERIFIER, 'collateral_url = "https://pccs.example.internal"', "collateral_ca_file: is missing"),
        (GATEWAY, 'front = "envoy"', "front: must be 'grpc'"),
        (GATEWAY, "processes = 2", "processes: must be 1"),
        (GATEWAY, "rest_processes = 2", "rest_processes: must be 1"),
        (GATEWAY, 'rest_listen = "0.0.0.0:8080"', "rest_listen: must be ''"),
        (GATEWAY, 'otlp_endpoint = "https://otel.example.internal:4317"', "otlp_endpoint: must be ''"),
        (WORKER, "threads = -1", "threads must not be negative"),
        (WORKER, 'cache_dir = "cache"', "unknown key 'cache_dir'"),
    ],
)
def test_settings_that_no_enclave_can_have_are_refused(kind: Kind, line: str, named: str, tmp_path: Path) -> None:
    file = write_settings(tmp_path / "service", kind)
    file.write_text(f"{line}\n{file.read_text()}")
    with pytest.raises(InvalidRequest, match=named) as refused:
        take_configuration(kind, file, tmp_path / "enclave")
    assert refused.value.reason == "settings.invalid"
    assert not (tmp_path / "enclave").exists()


def test_redis_is_closed_and_keeps_its_data_in_the_encrypted_state(tmp_path: Path) -> None:
    configuration = take_configuration(REDIS, write_settings(tmp_path / "service", REDIS), tmp_path / "enclave")
    lines = (tmp_path / "enclave/mesh/redis.conf").read_text().splitlines()
    assert configuration.settings == "/cloister/mesh/redis.conf"
    assert configuration.secrets == {}
    for line in (
        *("port 0", "tls-port 6379", "tls-auth-clients yes", "tls-protocols TLSv1.3", 'save ""', "appendonly yes"),
        *("aclfile /cloister/mesh/aclfile", "tls-key-file /cloister/host/tls-key-file", "dir /cloister/state"),
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("port 6379", "port: must be 0"),
        ("tls-auth-clients no", "tls-auth-clients: must be yes"),
        ("save 60 1", "save: must be empty"),
        ("daemonize yes", "daemonize: must be no"),
        ("loadmodule /tmp/evil.so", "loadmodule: is not for Redis in an enclave"),
        ("include other.conf", "include: is not for Redis in an enclave"),
        ("unixsocket /tmp/redis.sock", "unixsocket: is not for Redis in an enclave"),
        ("maxmemory 1gb", "maxmemory: stands there twice"),
    ],
)
def test_a_redis_that_is_open_or_starts_programs_is_refused(line: str, named: str, tmp_path: Path) -> None:
    file = write_settings(tmp_path / "service", REDIS)
    file.write_text(f"{file.read_text()}{line}\n")
    with pytest.raises(InvalidRequest, match=named):
        take_configuration(REDIS, file, tmp_path / "enclave")


@pytest.mark.parametrize(
    ("users", "named"),
    [
        ("user verifier on #5a ~* +get\n", "user default off"),
        ("user default off\nuser default on nopass\n", "user default off"),
        ("user default off ON nopass ~* +@all\n", "user default off"),
        ("user DEFAULT off\n", "user default off"),
        ("user default off\nuser verifier on >secret ~* +get\n", "holds a password"),
    ],
)
def test_an_access_list_that_lets_strangers_in_or_tells_a_password_is_refused(
    users: str, named: str, tmp_path: Path
) -> None:
    file = write_settings(tmp_path / "service", REDIS)
    (tmp_path / "service/users.acl").write_text(users)
    with pytest.raises(InvalidRequest, match=named):
        take_configuration(REDIS, file, tmp_path / "enclave")
