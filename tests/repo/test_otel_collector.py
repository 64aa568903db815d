"""The collector's settings: components and settings that exist, in pipelines that hold together, and no more."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fakes.collector_settings import FOLDER, allowed_keys, collector_settings
from fakes.manifests import ROOT

SCHEMA = json.loads((FOLDER / "otel-collector.schema.json").read_text())
Change = Callable[[dict[str, Any]], object]


def test_they_fit_what_the_components_take() -> None:
    jsonschema.validate(collector_settings(), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings["receivers"]["otlp"]["protocols"]["grpc"]["tls"].pop("client_ca_file"),
        lambda settings: settings["receivers"]["otlp"]["protocols"]["grpc"]["tls"].update(min_version="1.2"),
        lambda settings: settings["receivers"]["otlp"]["protocols"].update(http={}),
        lambda settings: settings["processors"]["redaction"].update(allow_all_keys=True),
        lambda settings: settings["processors"]["batch"].update(send_batch_maximum=1),
        lambda settings: settings["exporters"]["otlp_grpc"]["tls"].update(insecure_skip_verify=True),
        lambda settings: settings["exporters"]["otlp_http"].update(endpoint="http://prometheus:9090"),
        lambda settings: settings["exporters"].update(debug={"verbosity": "detailed"}),
    ],
)
def test_what_weakens_them_or_does_not_exist_is_found(change: Change) -> None:
    settings = collector_settings()
    change(settings)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(settings, SCHEMA)


def test_pipelines_use_what_there_is_and_all_of_it() -> None:
    settings = collector_settings()
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in settings["service"]["pipelines"].values() for name in pipeline[kind]}
        assert used == settings[kind].keys()


def test_spans_pass_the_limit_of_memory_first_and_the_allow_list_before_they_are_kept() -> None:
    traces = collector_settings()["service"]["pipelines"]["traces"]
    assert traces["processors"] == ["memory_limiter", "redaction", "batch"]


def kept(name: str) -> bool:
    """Whether a metric goes on from here, as Prometheus relabels: its expressions fit whole names."""
    (job,) = collector_settings()["receivers"]["prometheus"]["config"]["scrape_configs"]
    for rule in job["metric_relabel_configs"]:
        assert rule["source_labels"] == ["__name__"]
        if (re.fullmatch(rule["regex"], name) is not None) != (rule["action"] == "keep"):
            return False
    return True


def test_who_asked_goes_no_further_in_metrics_than_in_spans() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "services" / "cloister").rglob("*.py"))
    names = set(re.findall(r'"(cloister_[a-z_]+)"', code))
    left_out = {name for name in names if not kept(name)}
    assert left_out == {name for name in names if name.startswith("cloister_tenant_")} != set()
    assert "cloister.tenant" not in allowed_keys()


def test_numbers_fit_each_other() -> None:
    processors = collector_settings()["processors"]
    assert processors["memory_limiter"]["spike_limit_mib"] < processors["memory_limiter"]["limit_mib"]
    assert processors["batch"]["send_batch_size"] <= processors["batch"]["send_batch_max_size"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_takes_what_is_scraped(tmp_path: Path) -> None:
    scraped = collector_settings()["receivers"]["prometheus"]["config"]
    for job in scraped["scrape_configs"]:
        del job["kubernetes_sd_configs"]  # Debian builds Prometheus without it
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(scraped))
    done = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
