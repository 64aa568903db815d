"""Settings that make no sense do not load."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.errors import InvalidRequest
from cloister.gateway.limits import ModelLimits, TenantLimits
from cloister.gateway.settings import Settings
from cloister.kit.config import load

TEXT = """
cluster = "demo.cloister.internal"
listen = "127.0.0.1:0"
verifier = "127.0.0.1:1"
[tls]
certificate = "c.pem"
private_key = "k.pem"
trust_roots = "r.pem"
"""


ANN = "spiffe://demo.cloister.internal/client/ann"


def settings(tmp_path: Path, tables: str = "", **environ: str) -> Settings:
    file = tmp_path / "gateway.toml"
    file.write_text(TEXT + tables)
    prefix = "CLOISTER_GATEWAY_"
    return load(Settings, file, {prefix + key: value for key, value in environ.items()}, prefix=prefix)


def test_defaults_keep_one_tenant_from_filling_a_queue(tmp_path: Path) -> None:
    defaults = settings(tmp_path)
    assert defaults.tenant_limit < defaults.queue_limit
    assert defaults.tls.certificate == tmp_path / "c.pem"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PROCESSES", "0"),
        ("PROCESSES", "65"),
        ("QUEUE_LIMIT", "0"),
        ("TENANT_LIMIT", "-1"),
        ("MEMORY_BYTES", "0"),
        ("STREAM_LIMIT", "0"),
        ("MAX_CALL_S", "0"),
        ("MAX_CALL_S", "100000"),
        ("MAX_MESSAGE_BYTES", str((64 << 20) + 1)),
        ("TENANT_RATE", "-1"),
        ("TENANT_RATE", "1e9"),
        ("MODEL_RATE", "0.0001"),
        ("TENANT_BURST", "3"),
        ("MODEL_SLOTS", "-1"),
        ("QUEUE_LIMIT", str(1 << 62)),
        ("GRACE_S", "-1"),
        ("CLUSTER", "Not A Name"),
        ("OTLP_RATIO", "1.5"),
        ("OTLP_RATIO", "nan"),
        ("OPERATOR_LISTEN", "everywhere"),
        ("OPERATOR_LISTEN", ":8450"),
        ("OPERATOR_LISTEN", "127.0.0.1:65536"),
    ],
)
def test_values_without_sense(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(InvalidRequest):
        settings(tmp_path, **{key: value})


def test_limits_of_a_model_are_every_models_but_for_what_its_table_says(tmp_path: Path) -> None:
    made = settings(tmp_path, "[models.tiny]\nslots = 2\n", TENANT_RATE="10", MODEL_RATE="7", QUEUE_LIMIT="9")
    assert made.tenant_limits() == TenantLimits(calls=128, rate=10.0)
    assert made.model_limits().of("tiny") == ModelLimits(queue=9, slots=2, rate=7.0)
    assert made.model_limits().of("another") == ModelLimits(queue=9, rate=7.0)


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        (f'[tenants."{ANN}"]\ncalls = 1', "unknown key 'tenants'; did you mean tenants_file"),
        ("[models.tiny]\nqueue = 0", "tiny: queue"),
        ('[models."tiny@1"]\nqueue = 5', "'tiny@1'"),
    ],
)
def test_tables_without_sense_are_named(tmp_path: Path, tables: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        settings(tmp_path, tables)


REDIS = """
[redis]
url = "rediss://127.0.0.1:6379"
trust_roots = "r.pem"
certificate = "c.pem"
private_key = "k.pem"
user = "gateway"
password_file = "password"
shared_key = "shared.key"
"""


def test_jobs_are_on_where_there_is_a_redis_and_can_be_turned_off(tmp_path: Path) -> None:
    assert not settings(tmp_path).keeps_jobs
    made = settings(tmp_path, REDIS + "[jobs]\nattempts = 2\n")
    assert (made.keeps_jobs, made.runs_jobs, made.jobs.attempts, made.jobs.hold_s) == (True, True, 2, 30.0)
    taking = settings(tmp_path, REDIS, JOBS_PROCESSES="0")
    assert (taking.keeps_jobs, taking.runs_jobs) == (True, False)
    off = settings(tmp_path, REDIS, JOBS_ENABLED="false")
    assert (off.keeps_jobs, off.runs_jobs) == (False, False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ATTEMPTS", "0"),
        ("PROCESSES", "17"),
        ("PROCESSES", "-1"),
        ("HOLD_S", "0.1"),
        ("JOB_LIFE_S", "0"),
        ("RESULT_TTL_S", "0"),
        ("MAX_JOBS", "0"),
        ("TENANT_BYTES", "0"),
        ("MAX_JOB_BYTES", str((64 << 20) + 1)),
        ("MAX_RESULT_BYTES", "0"),
        ("BATCH", "129"),
        ("SLOT_SHARE", "0"),
        ("SLOT_SHARE", "1.1"),
    ],
)
def test_values_of_jobs_without_sense_are_named(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"jobs.{key.lower()}"):
        settings(tmp_path, **{f"JOBS_{key}": value})


@pytest.mark.parametrize("endpoint", ["https://otel-collector:4317", "http://127.0.0.1:4317", "https://[fd00::1]:4317"])
def test_a_collector_is_one_host_over_tls_or_this_machine(tmp_path: Path, endpoint: str) -> None:
    assert settings(tmp_path, OTLP_ENDPOINT=endpoint).otlp_endpoint == endpoint


@pytest.mark.attack("G27")
@pytest.mark.parametrize(
    "endpoint",
    [
        "http://otel-collector:4317",
        "http://localhost:4317",
        "http://127.0.0.1.example:4317",
        "https://user:secret@host:4317",
        "https://host:4317/elsewhere",
        "https://host",
        "https://host:0",
        "https://host:99999",
        "https://unix:4317",
        "https://host:4317,other:4317",
        "host:4317",
        "file:///etc/passwd",
        "unix:/run/otel.sock",
        "https://host:4317\n",
    ],
)
def test_a_collector_is_nothing_else(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(InvalidRequest, match="otlp_endpoint"):
        settings(tmp_path, OTLP_ENDPOINT=endpoint)


@pytest.mark.parametrize("alone", ["OTLP_CERTIFICATE", "OTLP_PRIVATE_KEY"])
def test_what_is_shown_to_a_collector_is_a_certificate_with_its_key(tmp_path: Path, alone: str) -> None:
    with pytest.raises(InvalidRequest, match="go together"):
        settings(tmp_path, **{alone: "sender.pem"})
