"""`cloister enclave lint`: findings, rules, and what a script can tell apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cloister.cli.app import app
from cloister.cli.failures import Stop
from cloister.enclave.kinds import WORKER
from cloister.enclave.lint import RULES
from cloister.errors import InvalidRequest
from fakes.linted_enclave import LintedEnclave


def lint(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["enclave", "lint", *map(str, words)])


@pytest.fixture
def enclave(tmp_path: Path) -> LintedEnclave:
    return LintedEnclave(tmp_path, WORKER)


def test_a_manifest_that_breaks_no_rule(enclave: LintedEnclave) -> None:
    manifest = enclave.write()
    done = lint(manifest)
    assert (done.exit_code, done.output) == (0, f"{manifest} breaks no rule\n")


def test_findings_come_with_why_and_what_to_do_once_for_each_rule(enclave: LintedEnclave) -> None:
    enclave.table["sgx"]["debug"] = True
    enclave.allow("file:a/")
    enclave.allow("file:b/")
    done = lint(enclave.write().parent)
    assert done.exit_code == 3
    lines = done.output.splitlines()
    assert lines[0].endswith("worker.manifest breaks 2 rules:")
    assert lines[1].startswith("M04  sgx.debug is on")
    assert [line.split()[0] for line in lines[1:]] == ["M04", "why", "mend", "M23", "M23", "why", "mend"]


def test_for_scripts(enclave: LintedEnclave) -> None:
    enclave.table["sgx"]["debug"] = True
    manifest = enclave.write()
    done = lint(manifest, "--json")
    assert done.exit_code == 3
    ((file, (finding,)),) = json.loads(done.output).items()
    assert (file, finding["rule"], finding["key"]) == (str(manifest), "M04", "sgx.debug")
    assert finding.keys() == {"rule", "key", "problem", "why", "mend"}


def test_the_rules() -> None:
    rules = json.loads(lint("--rules", "--json").output)
    assert [rule["rule"] for rule in rules] == [rule.id for rule in RULES]
    assert all(rule.id in lint("--rules").output for rule in RULES[::9])


@pytest.mark.parametrize("words", [(), ("--rules", "x.manifest")])
def test_one_thing_at_a_time(words: tuple[str, ...]) -> None:
    assert isinstance(lint(*words).exception, Stop)


def test_what_is_no_manifest(tmp_path: Path) -> None:
    assert isinstance(lint(tmp_path).exception, InvalidRequest)
