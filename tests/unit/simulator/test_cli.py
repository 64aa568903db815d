"""The command does what it says, and always says that it is simulated."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloister_simulator import cli, store
from cloister_simulator.measurement import worker_measurement
from fakes.sim import library_verdict


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert run("init", str(tmp_path / "sim")) == 0
    return tmp_path / "sim"


def run(*arguments: str) -> int:
    return CliRunner().invoke(cli.app, arguments).exit_code


def verdict(folder: Path) -> tuple[str, list[str]]:
    platform = store.load(folder, datetime.now(UTC))
    return library_verdict(platform, collateral=(folder / "collateral.json").read_bytes())


def test_init_makes_a_platform_that_is_believed_under_its_own_root(folder: Path) -> None:
    assert verdict(folder) == ("UpToDate", [])


def test_collateral_can_tell_of_an_old_platform(folder: Path) -> None:
    assert run("collateral", str(folder), "--tcb-status", "OutOfDate", "--advisory", "INTEL-SA-1") == 0
    assert verdict(folder) == ("OutOfDate", ["INTEL-SA-1"])
    assert run("collateral", str(folder)) == 0
    assert verdict(folder) == ("UpToDate", [])


def test_collateral_can_revoke(folder: Path) -> None:
    assert run("collateral", str(folder), "--revoke", "pck") == 0
    with pytest.raises(ValueError, match="CertRevoked"):
        verdict(folder)


def test_measure_prints_the_worker_for_programs_and_for_people() -> None:
    printed = CliRunner().invoke(cli.app, ["measure", "--json"])
    values = json.loads(printed.stdout)
    measurement = worker_measurement()
    assert values["mrenclave"] == measurement.mrenclave.hex()
    assert values["mrsigner"] == measurement.mrsigner.hex()
    assert values["simulated"] is True
    plain = CliRunner().invoke(cli.app, ["measure"]).stdout
    assert measurement.mrenclave.hex() in plain
    assert "SIMULATED" in plain


def test_one_value_is_printed_alone_for_a_command_line() -> None:
    printed = CliRunner().invoke(cli.app, ["measure", "worker", "--value", "MRENCLAVE"])
    assert printed.stdout == worker_measurement().mrenclave.hex() + "\n"
    domain = CliRunner().invoke(cli.app, ["measure", "worker", "--tee", "tdx", "--value", "mrtd"])
    assert len(bytes.fromhex(domain.stdout)) == 48
    wrong = CliRunner().invoke(cli.app, ["measure", "--value", "mrtd"])
    assert (wrong.exit_code, "mrenclave" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [["measure"], ["measure", "--json"]])
def test_every_use_says_it_is_simulated_on_stderr(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli.app, arguments)
    assert result.stderr.strip() == cli.NOTICE
    assert cli.NOTICE not in result.stdout


def test_what_goes_wrong_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cloister-simulator", "init", str(folder)])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    assert exit_info.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [cli.NOTICE, f"cloister-simulator: {folder} already holds a simulated platform"]
