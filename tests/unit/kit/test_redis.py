"""What the `[redis]` table may say (attacks H06)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloister.errors import NotReady
from cloister.kit.redis import RedisSettings
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


def test_host_and_port_come_from_the_url() -> None:
    assert (settings().host, settings().port) == ("redis.demo.internal", 6379)


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
