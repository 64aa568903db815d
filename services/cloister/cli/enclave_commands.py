"""`cloister enclave`: enclaves from what is installed here, for those who build, sign, run and audit them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from cloister.cli import enclave_build, enclave_lint, enclave_mesh, enclave_run, enclave_sign
from cloister.cli.enclave_words import print_comparison, print_measurement
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.options import AsJson, check_place, examples
from cloister.cli.output import print_json, say
from cloister.enclave.check import check_folder
from cloister.enclave.comparison import Comparison, compare
from cloister.enclave.measurement import Measurement
from cloister.enclave.reference_values import reference_values

app = typer.Typer(help="Enclaves: built here, measured, signed, compared, run by Gramine.", no_args_is_help=True)

MEASURED: Final = "Folder of an enclave, or its measurement.json."
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an enclave, as 'build' makes it.")]


@app.callback()
def enclave() -> None:
    """Enclaves: built here, measured, signed, compared, run by Gramine."""


enclave_build.add_to(app)
enclave_mesh.add_to(app)
enclave_run.add_to(app)


@app.command(
    epilog=examples(
        "cloister enclave measure enclaves/worker",
        "cloister enclave measure enclaves/worker --reference-values worker.toml",
        "cloister enclave measure new/worker old/worker --reference-values worker.toml",
    )
)
def measure(
    places: Annotated[list[Path], typer.Argument(metavar="DIR...", help=MEASURED)],
    reference_values_out: Annotated[
        Path | None,
        typer.Option("--reference-values", metavar="FILE", help="Write what an appraisal policy names them by, TOML."),
    ] = None,
    by_signer: Annotated[
        bool,
        typer.Option("--by-signer", help="Name signer, product and least ISVSVN there, in place of MRENCLAVE."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what enclaves measure as, and write reference values: rows that an appraisal policy takes as they are.

    It is as the build has left it; 'check' holds it against the files. Several are named in one file while a mesh goes
    from one build to the next; they must be of one kind and one set. A debug enclave gets none.
    """
    check_place(reference_values_out)
    if by_signer and reference_values_out is None:
        raise Stop("--by-signer says how to write --reference-values FILE; name the file too", ExitCode.USAGE)
    found = [Measurement.read(place) for place in places]
    if reference_values_out is not None:
        reference_values_out.write_text(reference_values(found, by_signer=by_signer))
    if as_json:
        print_json([each.identity() for each in found] if len(found) > 1 else found[0].identity())
        return
    for place, each in zip(places, found, strict=True):
        print_measurement(each, place)
    if reference_values_out is not None:
        say(f"{reference_values_out} names {'its signer' if by_signer else 'exactly this'}: append it to a policy")


enclave_sign.add_to(app)
enclave_lint.add_to(app)


@app.command(
    epilog=examples(
        "cloister enclave check enclaves/worker",
        "cloister enclave check published/measurement.json enclaves/worker",
        "cloister enclave check old/worker new/worker --json",
    )
)
def check(
    first: Annotated[Path, typer.Argument(metavar="DIR", help=MEASURED)],
    second: Annotated[Path | None, typer.Argument(metavar="[OTHER]", help=MEASURED)] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether an enclave is still what was measured, or what changed from one to another, file by file.

    With one DIR its files are hashed again and held against its measurement, its manifest and its SIGSTRUCT; where
    Gramine is, it is measured again as well. With two, their measurements are compared. Ends with 3 where they differ.
    """
    same = _check_one(first, as_json=as_json) if second is None else _check_two(first, second, as_json=as_json)
    if not same:
        raise typer.Exit(ExitCode.REFUSED)


def _check_two(first: Path, second: Path, *, as_json: bool) -> bool:
    found = compare(Measurement.read(first), Measurement.read(second))
    if as_json:
        print_json(found.plain())
    else:
        print_comparison(found)
    return found.same


def _check_one(folder: Path, *, as_json: bool) -> bool:
    found = check_folder(folder)
    changed = Comparison(identity=(), options=(), files=found.changed)
    if as_json:
        facts = {"measured_again": found.measured_again, "changed": changed.plain()["files"]}
        print_json(found.measured.identity() | facts)
    elif found.changed:
        say(f"{folder} is not as it was measured:", "bold")
        print_comparison(changed)
    else:
        again = (
            "Gramine measures the same here" if found.measured_again else "not measured again: this Gramine is not here"
        )
        say(f"{folder} is as it was measured, {found.measured.mrenclave}; {again}")
    return not found.changed
