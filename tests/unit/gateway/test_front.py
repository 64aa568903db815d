"""What the process before Envoy decides and hands over."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.errors import InvalidRequest
from cloister.gateway import front
from cloister.gateway.envoy_config import envoy_config, secrets
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.settings import Settings
from cloister.kit.config import REASON
from cloister.kit.redis_settings import RedisSettings
from fakes.pki import MeshPki


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    pki = MeshPki()
    files = pki.identity("gateway", "main").write(tmp_path)
    return Settings(cluster=pki.cluster, listen="127.0.0.1:1", verifier="127.0.0.1:2", tls=files, queue_limit=7)


def test_settings_survive_the_way_inside(settings: Settings) -> None:
    assert front.taken_over(front.handed_over(settings)) == settings
    assert front.taken_over(front.handed_over(replace(settings, front="envoy"))) != settings


def test_paths_are_handed_over_whole_since_the_gateway_inside_runs_elsewhere(settings: Settings) -> None:
    inside = front.taken_over(front.handed_over(replace(settings, routing=Path("r.toml"), otlp_ca=Path("ca.pem"))))
    assert (inside.routing, inside.otlp_ca) == (Path("r.toml").absolute(), Path("ca.pem").absolute())


def test_so_are_those_of_redis(settings: Settings) -> None:
    names = ("trust_roots", "certificate", "private_key", "password_file", "shared_key")
    paths = {name: Path("redis", name) for name in names}
    redis = RedisSettings(url="rediss://127.0.0.1:6379", user="gateway", **paths)
    inside = front.taken_over(front.handed_over(replace(settings, redis=redis, jobs=JobsSettings(attempts=3))))
    assert inside.redis is not None
    assert {name: getattr(inside.redis, name) for name in names} == {name: paths[name].absolute() for name in names}
    assert (inside.redis.url, inside.redis.sentinel_password_file, inside.jobs.attempts) == (redis.url, None, 3)


def test_envoy_is_taken_where_it_is() -> None:
    module = front.envoy_module("envoy")
    assert module is not None
    assert module.is_file()
    assert front.envoy_module("auto") == module
    assert front.envoy_module("grpc") is None


@pytest.mark.parametrize("lacking", ["pyvoy", "libpython"])
def test_without_envoy_auto_goes_on_and_says_so_and_envoy_does_not(
    lacking: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if lacking == "pyvoy":
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    else:
        monkeypatch.setattr(front, "_libpython", lambda: None)
    assert front.envoy_module("auto") is None
    assert "install" in capsys.readouterr().out
    with pytest.raises(InvalidRequest, match="front: Envoy cannot be had here") as caught:
        front.envoy_module("envoy")
    assert caught.value.reason == REASON


def test_no_key_is_copied_into_a_file_of_envoys(settings: Settings, tmp_path: Path) -> None:
    written = str(envoy_config(settings, admin=tmp_path / "a", module=tmp_path / "m")) + str(secrets(settings))
    assert "PRIVATE KEY" not in written
    assert str(settings.tls.private_key) in written


@pytest.mark.parametrize("said", ["", "nginx", "ENVOY"])
def test_a_front_that_does_not_exist_is_refused(settings: Settings, said: str) -> None:
    with pytest.raises(ValueError, match="front must be one of"):
        replace(settings, front=said)
