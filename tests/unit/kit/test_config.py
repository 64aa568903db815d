"""Settings: what loads, and what each mistake is called (J06)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloister.errors import InvalidRequest
from cloister.kit.config import host_chosen, load, settings_error

PREFIX = "CLOISTER_WORKER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    certificate: Path
    private_key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    cluster: str
    tls: Tls
    listen: str = host_chosen("127.0.0.1:0")
    models: tuple[str, ...] = ()
    slots: int = 16
    grace_s: float = 10.0
    log_json: bool = True
    anchor_root: Path | None = None

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError("slots must be at least 1")


GOOD = """
cluster = "demo.internal"
slots = 4
grace_s = 3
models = ["a", "b@2"]
[tls]
certificate = "tls/cert.pem"
private_key = "/abs/key.pem"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(GOOD)
    return path


def loaded(file: Path, **environ: str) -> Settings:
    return load(Settings, file, environ, prefix=PREFIX)


def test_defaults_then_file_then_environment(file: Path) -> None:
    got = loaded(
        file, CLOISTER_WORKER_SLOTS="8", CLOISTER_WORKER_TLS_CERTIFICATE="other.pem", CLOISTER_WORKER_LOG_JSON="False"
    )
    assert got == Settings(
        cluster="demo.internal",
        tls=Tls(certificate=Path("other.pem"), private_key=Path("/abs/key.pem")),
        models=("a", "b@2"),
        slots=8,
        grace_s=3.0,
        log_json=False,
    )


def test_paths_in_the_file_count_from_its_folder(file: Path, tmp_path: Path) -> None:
    assert loaded(file).tls.certificate == tmp_path / "tls/cert.pem"
    assert loaded(file, CLOISTER_WORKER_ANCHOR_ROOT="x.der").anchor_root == Path("x.der")


def test_lists_in_the_environment_are_separated_by_commas(file: Path) -> None:
    assert loaded(file, CLOISTER_WORKER_MODELS="x, y@3,").models == ("x", "y@3")


def test_settings_may_come_from_the_environment_alone() -> None:
    environ = {
        "CLOISTER_WORKER_CLUSTER": "demo.internal",
        "CLOISTER_WORKER_TLS_CERTIFICATE": "c",
        "CLOISTER_WORKER_TLS_PRIVATE_KEY": "k",
        "PATH": "/bin",
    }
    assert load(Settings, None, environ, prefix=PREFIX).tls.private_key == Path("k")


@pytest.mark.attack("C12")
def test_inside_an_enclave_the_host_chooses_only_what_it_may(file: Path) -> None:
    chosen = {"CLOISTER_WORKER_LISTEN": "0.0.0.0:8443"}
    assert load(Settings, file, chosen, prefix=PREFIX, in_enclave=True).listen == "0.0.0.0:8443"
    with pytest.raises(InvalidRequest, match="CLOISTER_WORKER_SLOTS may not be set from outside"):
        load(Settings, file, {"CLOISTER_WORKER_SLOTS": "9"}, prefix=PREFIX, in_enclave=True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("slots = 4", "slotz = 4", r"unknown key 'slotz'; did you mean slots\?"),
        ("slots = 4", 'slots = "s3cret"', "slots must be a whole number, and is a string"),
        ("slots = 4", "slots = 4.0", "slots must be a whole number, and is a number"),
        ("slots = 4", "slots = true", "slots must be a whole number, and is true or false"),
        ("slots = 4", "slots = 1\nslots = 2", r"not TOML: .*line 4"),
        ("slots = 4", "slots = 0", "slots must be at least 1"),
        ("slots = 4", "log_json = 1", "log_json must be true or false, and is a whole number"),
        ("grace_s = 3", "grace_s = nan", "grace_s must be a number"),
        ("grace_s = 3", "grace_s = true", "grace_s must be a number, and is true or false"),
        ('models = ["a", "b@2"]', 'models = "a"', "models must be a list of strings, and is a string"),
        ('models = ["a", "b@2"]', "models = [1]", "models must be a list of strings, and is a list"),
        ('cluster = "demo.internal"', "", "cluster is missing"),
        ('cluster = "demo.internal"', "cluster = 2026-01-01", "cluster must be a string, and is a date or time"),
        ('certificate = "tls/cert.pem"', "", r"tls\.certificate is missing"),
        ('certificate = "tls/cert.pem"', 'certificate = ""', r"tls\.certificate must be a path, and is empty"),
        (
            'certificate = "tls/cert.pem"',
            'certifcate = "x"',
            r"unknown key 'tls\.certifcate'; did you mean certif",
        ),
        ("[tls]", "[[tls]]", "tls must be a table, and is a list"),
        ("[tls]", "tls = 1\n[x]", "tls must be a table, and is a whole number"),
        ("[tls]", '["\\u001b[31m\\n"]', r"unknown key '\\x1b\[31m\\n'"),
        ("slots = 4", "slots = {a = 1}", "slots must be a whole number, and is a table"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_file(file: Path, old: str, new: str, said: str) -> None:
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(InvalidRequest, match=said) as caught:
        loaded(file)
    assert str(caught.value).startswith(str(file))
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.reason == "settings.invalid"


@pytest.mark.attack("C12")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SLOTZ", "1", "unknown variable 'CLOISTER_WORKER_SLOTZ'; did you mean CLOISTER_WORKER_SLOTS"),
        ("SLOTS", "s3cret", "CLOISTER_WORKER_SLOTS: must be a whole number"),
        ("LOG_JSON", "yes", "CLOISTER_WORKER_LOG_JSON: must be true or false"),
        ("GRACE_S", "inf", "grace_s must be a number"),
        ("TLS", "x", "unknown variable"),
        ("ANCHOR_ROOT", "", "anchor_root must be a path, and is empty"),
    ],
)
def test_a_mistake_in_the_environment_is_named(file: Path, name: str, value: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        loaded(file, **{PREFIX + name: value})
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for content in (None, b"\xff\xfe", b"x = " + b"[" * 100_000, b"#" * (2 << 20)):
        file = tmp_path / "settings.toml"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InvalidRequest, match=r"settings\.toml: ") as caught:
            loaded(file)
        assert "\n" not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_settings_or_a_mistake(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(raw)
    with pytest.raises(InvalidRequest):
        loaded(file)


def test_a_service_names_its_own_mistakes_the_same_way() -> None:
    error: Any = settings_error("verifier", "must be host:port")
    assert (str(error), error.reason) == ("verifier: must be host:port", "settings.invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    calls: int | None = None
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError("rate must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    name: str = ""
    shares: Mapping[str, Share] = field(default_factory=dict)


def shared(tmp_path: Path, text: str, **environ: str) -> Shared:
    path = tmp_path / "shared.toml"
    path.write_text(text)
    return load(Shared, path, environ, prefix=PREFIX)


def test_named_tables_are_dataclasses_by_name(tmp_path: Path) -> None:
    found = shared(tmp_path, '[shares."spiffe://a.b/client/ann"]\ncalls = 3\n[shares.bob]\nrate = 2\n')
    assert found.shares == {"spiffe://a.b/client/ann": Share(calls=3), "bob": Share(rate=2.0)}
    assert shared(tmp_path, "").shares == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shares = 3", "shares must be a table, and is a whole number"),
        ("[shares]\nann = 3", "'shares.ann' must be a table"),
        ("[shares.ann]\ncals = 3", "unknown key 'shares.ann.cals'; did you mean calls?"),
        ('[shares.ann]\ncalls = "3"', "shares.ann.calls"),
        ("[shares.ann]\nrate = -1", "rate must not be negative"),
        ("[shares.a.b]\ncalls = 1", "unknown key 'shares.a.b'"),
    ],
)
def test_a_mistake_in_a_named_table_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        shared(tmp_path, text)
    assert said in str(caught.value)


def test_named_tables_do_not_come_from_the_environment(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="unknown variable"):
        shared(tmp_path, "", **{PREFIX + "SHARES": "ann"})
