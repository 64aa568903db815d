"""`cloister evidence verify` and `judge`: evidence in files, judged offline by what judges workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from cloister.cli.evidence_words import plain_judgement, print_judgement
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.options import AsJson, At, examples, moment
from cloister.cli.output import print_json, print_json_line, say, table
from cloister.cli.trusted import trusted
from cloister.client import EvidenceFile, JudgedEntry, judge_corpus, judge_file
from cloister.errors import InvalidRequest, NotFound, NotReady

MAX_SHOWN: Final = 2  # advisories in a row of the table


def add_to(app: typer.Typer) -> None:
    """Give the `evidence` command these parts."""
    app.command(
        epilog=examples(
            "cloister evidence verify worker.bundle --trust trust.json",
            "cloister evidence verify quote.bin --collateral collateral.json --at 2026-11-22T12:00:00Z",
            "cloister evidence verify ra-tls.pem --collateral collateral.json --json",
        )
    )(verify)
    app.command(
        epilog=examples("cloister evidence judge --corpus quotes", "cloister evidence judge --corpus quotes --json")
    )(judge)


def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A quote, an RA-TLS certificate (PEM or DER), or an evidence bundle.")
    ],
    collateral: Annotated[
        Path | None,
        typer.Option(help="Collateral to judge by, JSON with QuoteCollateralV3 names; a bundle brings its own."),
    ] = None,
    trust: Annotated[
        Path | None, typer.Option(help="Trust bundle to judge by; by default Intel's root and the default policy.")
    ] = None,
    at: At = "",
    allow_legacy_ra_tls: Annotated[
        bool,
        typer.Option(
            "--allow-legacy-ra-tls",
            help="Also judge certificates of Gramine before 1.8, whose quote is bound to the key and to nothing else.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge a quote, an RA-TLS certificate or an evidence bundle offline: what it is, and whether it is believed.

    Asks nobody. Ends with 0 when it is believed, with 3 when it is not, and with 2 when it cannot be judged at all.

    The Attestation Result in a bundle must be of the verifier that --trust names, in time, and agree with our findings.
    """
    now = moment(at)
    try:
        evidence = EvidenceFile.read(file, collateral)
        bundle = trusted(trust) if trust is not None else None
    except (NotFound, NotReady, InvalidRequest, OSError) as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    if not evidence.raw_collateral:
        raise Stop(f"{file} brings no collateral to judge it by; name it with --collateral", ExitCode.USAGE)
    found = judge_file(evidence, bundle, now, allow_legacy_ra_tls=allow_legacy_ra_tls)
    if as_json:
        print_json(plain_judgement(evidence, found))
    else:
        print_judgement(evidence, found)
    if not found.believed:
        raise typer.Exit(ExitCode.REFUSED)


def judge(
    corpus: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder with quotes, their collateral and roots, and manifest.json.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each evaluation.")] = False,
) -> None:
    """Judge a folder of quotes offline, each under the root and at the times that manifest.json names for it.

    By the code that appraises workers, and the default policy. What is broken is a line that says so. Ends with 0 when
    everything was judged, whatever came of it.
    """
    try:
        judged = judge_corpus(corpus)
    except (NotFound, InvalidRequest, OSError) as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    defects = _print_lines(judged) if as_json else _print_table(list(judged))
    if defects:
        raise Stop(f"{defects} could not be judged because of a defect of this program; please report it")


def _print_lines(judged: Iterable[JudgedEntry]) -> int:
    """Print each as it comes; how many met a defect of ours."""
    defects = 0
    for one in judged:
        print_json_line(asdict(one))
        defects += one.defect
    return defects


def _print_table(judged: list[JudgedEntry]) -> int:
    table(
        ("entry", "evaluation", "quote", "tcb", "advisories", "default policy", "step", "reason"),
        [
            (
                one.id or "-",
                one.label or "-",
                one.crypto,
                one.tcb_status or "-",
                _shortened(one.advisory_ids or ()),
                one.default_policy,
                "-" if one.step is None else one.step,
                one.reason or "-",
            )
            for one in judged
        ],
    )
    genuine = sum(one.crypto == "verified" for one in judged)
    accepted = sum(one.default_policy == "accept" for one in judged)
    say(f"{len(judged)} judged: {genuine} genuine, of which {accepted} accepted; {len(judged) - genuine} not genuine")
    return sum(one.defect for one in judged)


def _shortened(advisory_ids: Sequence[str]) -> str:
    more = len(advisory_ids) - MAX_SHOWN
    return (", ".join(advisory_ids[:MAX_SHOWN]) or "-") + (f" and {more} more" if more > 0 else "")
