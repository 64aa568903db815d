"""`cloister collateral`: fetch what Intel publishes about platforms, sign it, look at it, and give it to a verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.cli.collateral_words import plain_summary, print_summary
from cloister.cli.failures import ExitCode, Stop, sentence
from cloister.cli.identities import ed25519_key
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, At, MeshFolder, check_place, examples, moment, root_der
from cloister.cli.output import print_json, say
from cloister.client import EvidenceFile, anchor_of
from cloister.client.collateral_bundles import bundled, genuine, summarize, wanted_for_quote
from cloister.errors import EvidenceRejected, InvalidRequest, NotReady
from cloister.pcs import INTEL_PCS, Source, Wanted
from cloister.rpc.files import read_private, replace_public

app = typer.Typer(help="Collateral: what Intel publishes about platforms.", no_args_is_help=True)

MAX_FILE_BYTES = 8 << 20

Key = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="PEM", help="Ed25519 private key to sign with, mode 0600; may be repeated."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="File to write.")]
Root = Annotated[
    Path | None, typer.Option("--anchor-root", help="Root certificate in DER to judge under; by default Intel's.")
]
Version = Annotated[
    int | None, typer.Option("--version", min=0, help="Of the bundle, above all before. (default: the time)")
]


@app.callback()
def collateral() -> None:
    """Collateral: what Intel publishes about platforms, without which no quote can be judged."""


@app.command(
    epilog=examples(
        "cloister collateral fetch --for quote.bin -o collateral.json",
        "cloister collateral fetch --url https://pccs:8081 --ca-file pccs.pem --fmspc 00906ed50000 --ca processor "
        "--key signing_key.pem -o collateral.bundle",
    )
)
def fetch(
    out: Out,
    url: Annotated[str, typer.Option(help="The service: Intel's PCS or a PCCS.")] = INTEL_PCS,
    fmspc: Annotated[list[str] | None, typer.Option(help="Platform family, 12 hex digits; may be repeated.")] = None,
    tee: Annotated[str, typer.Option(help="Of the families: sgx or tdx.")] = "sgx",
    ca: Annotated[str, typer.Option(help="Who certified the platforms: processor or platform.")] = "platform",
    quotes: Annotated[
        list[Path] | None, typer.Option("--for", metavar="QUOTE", help="Quote to fetch for; may be repeated.")
    ] = None,
    update: Annotated[str, typer.Option(help="TCB evaluation data: standard or early.")] = "standard",
    evaluation: Annotated[int | None, typer.Option(min=1, help="Number of the TCB evaluation data instead.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="CA of the service in PEM, instead of the system's.")] = None,
    root_crl_url: Annotated[str, typer.Option(help="Where the root's revocation list is, if not as usual.")] = "",
    proxy: Annotated[str, typer.Option(help="http://host:port of a proxy that leads to the service.")] = "",
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Speak http to another machine.")] = False,
    anchor_root: Root = None,
    at: At = "",
    key: Key = None,
    version: Version = None,
) -> None:
    """Fetch collateral, check that it is genuine, and write it: as a signed bundle where there is a --key.

    Nothing is written unless everything came and leads back to the root.
    """
    check_place(out)
    source = Source(url=url, ca_file=ca_file, root_crl_url=root_crl_url, proxy=proxy, plain_http=plain_http)
    try:
        wanted = [
            *(Wanted(tee=tee, fmspc=one.lower(), ca=ca, update=update, evaluation=evaluation) for one in fmspc or ()),
            *(_wanted_for(one, update, evaluation) for one in quotes or ()),
        ]
    except InvalidRequest as error:
        asked = f"--tee {tee} --ca {ca} --update {update} --fmspc {' '.join(fmspc or ())}"
        raise Stop(f"{asked[:200]} names no platform family: {error}", ExitCode.USAGE) from error
    if not wanted:
        raise Stop("name a platform family with --fmspc, or a quote of one with --for", ExitCode.USAGE)
    keys = _keys(key) if key else []
    if len(set(wanted)) > 1 and not keys:
        raise Stop("several families go into a bundle, which is signed: name a --key", ExitCode.USAGE)
    anchor, now = anchor_of(root_der(anchor_root)), moment(at)
    from cloister.pcs.client import PcsClient  # with it comes all of HTTP, which no other command waits for

    answers = asyncio.run(PcsClient(source).fetch(list(dict.fromkeys(wanted))))
    with _nothing_written():
        found = genuine(answers, anchor, now)
        raw = bundled(found, keys, anchor, now, version) if keys else found[0]
    _write(out, raw)


@app.command(
    epilog=examples(
        "cloister collateral sign one.json two.json --key signing_key.pem -o collateral.bundle",
        "cloister collateral sign collateral.bundle --key second_key.pem -o collateral.bundle",
    )
)
def sign(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Collateral of one family each, or a bundle.")],
    out: Out,
    key: Key = None,
    anchor_root: Root = None,
    at: At = "",
    version: Version = None,
) -> None:
    """Make a signed bundle of collateral, or add a signature to a bundle. What is not genuine is not signed."""
    check_place(out)
    keys, anchor, now = _keys(key), anchor_of(root_der(anchor_root)), moment(at)
    with _nothing_written(*files):
        raw = bundled([_read(one) for one in files], keys, anchor, now, version)
    _write(out, raw)
    for one in keys:
        say(f"your key, for collateral_signers: {one.public_key().public_bytes_raw().hex()}")


@app.command(epilog=examples("cloister collateral show collateral.bundle", "cloister collateral show c.json --json"))
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle, or JSON with QuoteCollateralV3 names.")],
    anchor_root: Root = None,
    at: At = "",
    as_json: AsJson = False,
) -> None:
    """Show what collateral is about: families, evaluation numbers, dates, who signed it, and whether it is genuine.

    Ends with 3 where something in it does not lead back to the root at that time.
    """
    try:
        with _named(file):
            summary = summarize(_read(file), anchor_of(root_der(anchor_root)), moment(at))
    except EvidenceRejected as error:
        raise Stop(f"{file} is of no platform family: {error} ({error.reason})", ExitCode.REFUSED) from error
    if as_json:
        print_json(plain_summary(summary))
    else:
        print_summary(summary)
    if any(one.refusal for one in summary.families):
        raise typer.Exit(ExitCode.REFUSED)


@app.command(
    "import",
    epilog=examples(
        "cloister collateral import collateral.bundle",
        "cloister collateral import collateral.json --key signing_key.pem --settings verifier/settings.toml",
    ),
)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle, or JSON with QuoteCollateralV3 names.")],
    key: Key = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="The verifier's settings; by default those in the mesh folder.")
    ] = None,
    version: Version = None,
    mesh_folder: MeshFolder = FOLDER,
) -> None:
    """Give collateral to a verifier: check it by the verifier's settings and memory, then put it in its place, whole.

    With a --key, what is not signed yet is made a bundle first. A running verifier takes it within a minute.
    """
    try:
        # Needs what a verifier needs, and no other command does.
        from cloister.kit import config
        from cloister.verifier.collateral_import import import_collateral
        from cloister.verifier.settings import Settings
    except ModuleNotFoundError as error:
        raise Stop("there is no verifier here; install 'cloister[serve]'") from error
    path = settings_file or Mesh.read(mesh_folder).settings("verifier")
    settings = config.load(Settings, path, {}, prefix="CLOISTER_VERIFIER_")
    anchor, now, raw = anchor_of(root_der(settings.anchor_root)), datetime.now(UTC), _read(file)
    with _nothing_written(file):
        if key:
            raw = bundled([raw], _keys(key), anchor, now, version)
        families = import_collateral(raw, settings, anchor, now)
    for family in families:
        say(f"{family} is in {settings.collateral}")


@contextmanager
def _named(*files: Path) -> Iterator[None]:
    """Say which files do not parse."""
    try:
        yield
    except InvalidRequest as error:
        raise Stop(f"{', '.join(map(str, files))}: {sentence(error)}") from error


@contextmanager
def _nothing_written(*files: Path) -> Iterator[None]:
    """Say of collateral that is not believed what that means here: it is nobody's evidence."""
    try:
        with _named(*files) if files else nullcontext():
            yield
    except EvidenceRejected as error:
        dated = error.reason.endswith((".expired", ".rolled_back"))
        advice = "fetch newer collateral" if dated else "is it of the root that --anchor-root or the settings name?"
        raise Stop(f"{error} ({error.reason}); nothing was written: {advice}", ExitCode.REFUSED) from error


def _keys(paths: Sequence[Path] | None) -> list[Ed25519PrivateKey]:
    if not paths:
        raise Stop("name a key to sign with: --key", ExitCode.USAGE)
    try:
        return [ed25519_key(read_private(path), path) for path in paths]
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error


def _wanted_for(path: Path, update: str, evaluation: int | None) -> Wanted:
    try:
        return wanted_for_quote(EvidenceFile.read(path).raw_quote, update=update, evaluation=evaluation)
    except (EvidenceRejected, NotReady) as error:
        raise Stop(f"{path} names no platform family: {error}", ExitCode.USAGE) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Stop(f"{path} cannot be read: {error.strerror}", ExitCode.USAGE) from error
    if len(raw) > MAX_FILE_BYTES:
        raise Stop(f"{path} is far too large for collateral", ExitCode.USAGE)
    return raw


def _write(out: Path, raw: bytes) -> None:
    replace_public(out, raw)
    say(f"wrote {out}")
