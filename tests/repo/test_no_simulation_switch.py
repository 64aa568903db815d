"""Nothing that an operator can set turns simulation on in a production program; those who may believe it say so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import cloister.gateway.settings
import cloister.provisioner.settings
import cloister.verifier.settings
import cloister.worker.settings
from cloister.errors import InvalidRequest
from cloister.kit import config, lifecycle

SETTINGS = {
    "gateway": cloister.gateway.settings.Settings,
    "provisioner": cloister.provisioner.settings.Settings,
    "verifier": cloister.verifier.settings.Settings,
    "worker": cloister.worker.settings.Settings,
}
# What a switch might be called: it would make evidence, or have it not looked at.
SWITCH = re.compile(r"simul|fake|mock|insecure|debug|quoter|attest|skip|demo|develop|test")
# Who links with simulated workers if told to; each owner's policy still decides on keys, each client on requests.
BELIEVES: dict[str, set[str]] = {"gateway": {"simulated_workers"}}


def all_fields(settings: type) -> Iterator[Field[Any]]:
    types = get_type_hints(settings)
    for field in fields(settings):
        yield field
        if is_dataclass(types[field.name]) and isinstance(types[field.name], type):
            yield from all_fields(types[field.name])


@pytest.mark.attack("C12")
@pytest.mark.parametrize("service", SETTINGS)
def test_no_setting_makes_or_spares_evidence(service: str) -> None:
    named = {field.name: field for field in all_fields(SETTINGS[service]) if SWITCH.search(field.name)}
    assert set(named) == BELIEVES.get(service, set())
    assert not any(field.default or field.default is MISSING for field in named.values())


@pytest.mark.attack("C12")
@pytest.mark.parametrize("service", SETTINGS)
@pytest.mark.parametrize("switch", ["simulation", "quoter", "platform", "allow_debug", "insecure_skip_verify"])
def test_a_switch_in_settings_or_environment_is_an_unknown_key(tmp_path: Path, service: str, switch: str) -> None:
    (tmp_path / "settings.toml").write_text(f"{switch} = true\n")
    with pytest.raises(InvalidRequest, match=f"unknown key '{switch}'"):
        config.load(SETTINGS[service], tmp_path / "settings.toml", {}, prefix="CLOISTER_")
    variable = f"CLOISTER_{service.upper()}_{switch.upper()}"
    with pytest.raises(InvalidRequest, match=f"unknown variable '{variable}'"):
        config.load(SETTINGS[service], None, {variable: "1"}, prefix=f"CLOISTER_{service.upper()}_")


@pytest.mark.attack("C12")
@pytest.mark.parametrize("flag", ["--simulated", "--simulator", "--platform=sim", "--attestation=host", "--set=x.toml"])
def test_a_flag_ends_the_program_before_it_begins(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All services are started by this one function; `--settings` is the one argument they know."""

    async def serve(_settings: object, _lifecycle: lifecycle.Lifecycle) -> None:
        raise AssertionError("it began")

    settings: Any = SETTINGS["worker"]
    with pytest.raises(SystemExit) as ended:
        lifecycle.run_service("worker", serve, settings, argv=[flag])
    assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err
