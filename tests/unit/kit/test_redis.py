"""What the `[redis]` table may say (attacks H06)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from cloister.errors import NotReady
from cloister.kit.redis_clients import Tls
from cloister.kit.redis_settings import RedisSettings
from fakes.pki import MeshPki
from fakes.running_services import private_file


def settings(**changes: Any) -> RedisSettings:
    path = Path("anywhere")
    fields: dict[str, Any] = {
        "url": "rediss://redis.demo.internal:6379",
        "trust_roots": path,
        "certificate": path,
        "private_key": path,
        "user": "verifier",
        "password_file": path,
        "shared_key": path,
    }
    return RedisSettings(**{**fields, **changes})


SENTINEL: dict[str, Any] = {"sentinel": "jobs", "sentinel_user": "watching", "sentinel_password_file": Path("anywhere")}


@pytest.mark.parametrize(
    ("change", "addresses"),
    [
        ({}, ["redis.demo.internal:6379"]),
        ({"url": "rediss://a.internal:1,10.0.0.2:2", "cluster": True}, ["a.internal:1", "10.0.0.2:2"]),
        ({"url": "rediss://a.internal:1,b.internal:2/", **SENTINEL}, ["a.internal:1", "b.internal:2"]),
    ],
    ids=["one", "cluster", "sentinel"],
)
def test_addresses_come_from_the_url(change: dict[str, Any], addresses: list[str]) -> None:
    assert [str(each) for each in settings(**change).addresses] == addresses


@pytest.mark.parametrize(
    "change",
    [
        {"url": "rediss://a.internal:1,b.internal:2"},
        {"cluster": True, **SENTINEL},
        {**SENTINEL, "sentinel_user": ""},
        {**SENTINEL, "sentinel_user": "default"},
        {**SENTINEL, "sentinel_password_file": None},
        {"sentinel_user": "watching"},
        {"url": "rediss://a.internal:1,,b.internal:2", "cluster": True},
        {"url": "rediss://a.internal:1,user@b.internal:2", "cluster": True},
        {"url": ",".join(["rediss://a.internal:1", *(["a.internal:1"] * 32)]), "cluster": True},
    ],
    ids=["unsaid", "both", "no-user", "default-user", "no-password", "no-sentinel", "gap", "user-in-url", "too-many"],
)
def test_several_servers_are_sentinels_or_a_cluster(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"redis\."):
        settings(**change)


def test_only_the_roots_that_are_named_are_believed_as_they_are_now(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_bytes(MeshPki().roots_pem)
    tls = Tls(tmp_path / "roots.pem")
    before, again = tls.context(), tls.context()
    assert before is again
    (tmp_path / "roots.pem").write_bytes(MeshPki().roots_pem)
    context = tls.context()
    assert context.get_ca_certs() != before.get_ca_certs()
    assert len(context.get_ca_certs()) == 1
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.check_hostname


@pytest.mark.attack("H06")
@pytest.mark.parametrize(
    "change",
    [
        {"url": "redis://redis.demo.internal:6379"},
        {"url": "unix:///run/redis"},
        {"url": "rediss://redis.demo.internal"},
        {"url": "rediss://:6379"},
        {"url": "rediss://verifier:secret@redis.demo.internal:6379"},
        {"url": "rediss://redis.demo.internal:6379/0"},
        {"url": "rediss://redis.demo.internal:6379?ssl_cert_reqs=none"},
        {"user": "default"},
        {"user": ""},
        {"timeout_s": 0.0},
    ],
    ids=lambda change: next(iter(change.values())),
)
def test_whatever_is_less_than_tls_and_a_user_of_ours(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"redis\.") as refused:
        settings(**change)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("size", [0, 16, 33])
def test_a_shared_key_has_32_bytes(tmp_path: Path, size: int) -> None:
    with pytest.raises(NotReady) as refused:
        settings(shared_key=private_file(tmp_path / "key", bytes(size))).read_shared_key()
    assert refused.value.reason == "shared_key.unusable"
