"""`cloister enclave lint`: manifests held against the rules, without Gramine; ours, and anybody's."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.options import AsJson, examples
from cloister.cli.output import facts, print_json, say
from cloister.enclave.lint import RULES, lint
from cloister.enclave.rule import Finding


def add_to(app: typer.Typer) -> None:
    """Give the `enclave` command this part."""
    app.command(
        "lint",
        epilog=examples(
            "cloister enclave lint enclaves/worker",
            "cloister enclave lint redis-server.manifest.sgx --json",
            "cloister enclave lint --rules",
        ),
    )(lint_manifests)


def lint_manifests(
    place: Annotated[
        Path | None, typer.Argument(metavar="[FILE|DIR]", help="A manifest of Gramine's, or a folder with some.")
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules, and lint nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hold a manifest against the rules: what the host could change, read or say, and who it would be taken for.

    Any manifest will do, rendered (.manifest) or signed (.manifest.sgx); its files are looked at where they lie beside
    it. Gramine is not needed. Ends with 0 when no rule is broken, with 3 when one is.
    """
    if rules is (place is not None):
        raise Stop("name a manifest or a folder, or ask for --rules", ExitCode.USAGE)
    if place is None:
        _print_rules(as_json=as_json)
        return
    found = lint(place)
    if as_json:
        print_json({str(file): [finding.as_json() for finding in findings] for file, findings in found.items()})
    else:
        _print_findings(found)
    if any(found.values()):
        raise typer.Exit(ExitCode.REFUSED)


def _print_rules(*, as_json: bool) -> None:
    if as_json:
        print_json([{"rule": rule.id, "title": rule.title, "why": rule.why, "mend": rule.mend} for rule in RULES])
        return
    for rule in RULES:
        say(f"{rule.id}  {rule.title}", "bold")
        facts({"why": rule.why, "mend": rule.mend}, indent="     ")


def _print_findings(found: Mapping[Path, Sequence[Finding]]) -> None:
    """What each rule objects to, then why and what to do, once for each rule."""
    for file, findings in found.items():
        say(f"{file} breaks {_counted({finding.rule for finding in findings})}")
        for _, alike in itertools.groupby(findings, key=lambda finding: finding.rule):
            for finding in alike:
                say(f"{finding.rule}  {finding.key} {finding.problem}", "bold")
            facts({"why": finding.why, "mend": finding.mend}, indent="     ")


def _counted(rules: Collection[str]) -> str:
    return f"{len(rules)} rules:" if len(rules) > 1 else "a rule:" if rules else "no rule"
