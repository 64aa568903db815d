"""What a bridge is told, and what it does not do however it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloister.compat.zoo.bridge.connecting import check_other_than
from cloister.compat.zoo.bridge.settings import BridgeSettings, Target, TheirRedis, parse_streams
from cloister.errors import CloisterError, InvalidRequest, NotReady
from fakes.pki import MeshPki

CA = Path("ca.pem")


def settings(**changes: Any) -> BridgeSettings:
    fields: dict[str, Any] = {"redis": TheirRedis(url="redis://127.0.0.1:6379"), "streams": {"s": Target("m")}}
    return BridgeSettings(**(fields | changes))


def test_streams_name_models_and_versions() -> None:
    found = parse_streams(["serving_stream=breast-cancer", "scans=lungs@2", "ecg=hearts@stable"])
    assert found == {
        "serving_stream": Target("breast-cancer"),
        "scans": Target("lungs", "2"),
        "ecg": Target("hearts", "stable"),
    }


@pytest.mark.parametrize("given", [["s"], ["s="], ["s=m@"], ["s=m", "s=n"]])
def test_a_stream_that_names_no_model_or_two_is_refused(given: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_streams(given)
    assert caught.value.reason == "stream.malformed"


@pytest.mark.parametrize(
    "changes",
    [{"streams": {}}, {"group": "a b"}, {"consumer": ""}, {"since": "now"}, {"result_ttl_s": 0}, {"batch": 0},
     {"streams": {"": Target("m")}}, {"max_records": 10}],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    assert settings().since == ""
    with pytest.raises(InvalidRequest):
        settings(**changes)


@pytest.mark.parametrize(
    "more",
    [
        {"url": "rediss://redis.lab:6379", "trust_roots": CA},
        {"url": "rediss://redis.lab:6379/", "trust_roots": CA, "certificate": CA, "private_key": CA},
        {"url": "redis://127.0.0.1:6379"},
        {"url": "redis://[::1]:6379"},
        {"url": "redis://localhost:6379"},
        {"url": "unix:///run/redis.sock"},
        {"url": "redis://redis.lab:6379", "plaintext": True},
    ],
    ids=lambda more: more["url"],
)
def test_where_their_redis_may_be(more: dict[str, Any]) -> None:
    assert TheirRedis(**more)


@pytest.mark.attack("H06")
@pytest.mark.parametrize("url", ["redis://redis.lab:6379", "redis://10.0.0.4:6379", "redis://127.0.0.1.evil:6379"])
def test_requests_in_clear_do_not_cross_a_network_unless_somebody_says_so(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        TheirRedis(url=url)
    assert caught.value.reason == "redis.plaintext"


@pytest.mark.parametrize(
    "more",
    [
        {"url": "rediss://redis.lab:6379"},
        {"url": "rediss://redis.lab", "trust_roots": CA},
        {"url": "rediss://redis.lab:port", "trust_roots": CA},
        {"url": "rediss://me:secret@redis.lab:6379", "trust_roots": CA},
        {"url": "rediss://redis.lab:6379/3", "trust_roots": CA},
        {"url": "rediss://redis.lab:6379", "trust_roots": CA, "certificate": CA},
        {"url": "redis://127.0.0.1:6379", "trust_roots": CA},
        {"url": "unix://run/redis.sock"},
        {"url": "http://redis.lab:6379"},
    ],
    ids=lambda more: "".join(more),
)
def test_an_address_that_is_none_is_refused_and_not_repeated(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        TheirRedis(**more)
    assert caught.value.reason == "redis.url_invalid"
    assert "secret" not in str(caught.value)


@pytest.mark.attack("H06")
def test_the_meshs_own_redis_is_refused(tmp_path: Path) -> None:
    mesh, lab = MeshPki(), MeshPki("lab.internal")
    roots = tmp_path / "roots.pem"

    def check(url: str, pem: bytes, mesh_redis: str = "127.0.0.1:6390") -> None:
        roots.write_bytes(pem)
        tls = {"trust_roots": roots} if url.startswith("rediss") else {}
        check_other_than(TheirRedis(url=url, **tls), mesh_redis, mesh.roots_pem.decode())

    check("rediss://redis.lab:6379", lab.roots_pem)
    check("redis://localhost:6391", b"")
    for url, pem in (
        ("redis://localhost:6390", b""),
        ("rediss://127.0.0.1:6390", lab.roots_pem),
        ("rediss://redis.lab:6379", lab.roots_pem + mesh.roots_pem),
    ):
        with pytest.raises(NotReady) as caught:
            check(url, pem)
        assert caught.value.reason == "redis.of_mesh"
    with pytest.raises(CloisterError):
        check("rediss://redis.lab:6379", b"no certificate")
