"""`cloister model signers`, `sign` and `apply`: who signs for a model, and what several people sign together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.identities import key_in
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, check_place, examples, hex_32
from cloister.cli.output import print_json, say, warn
from cloister.cli.owning import owner_connected
from cloister.cli.release_words import plain_signers, print_policy, print_signers
from cloister.client import DocumentKind, OwnerDocument, read_document, signer_set_draft
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.signer_set import SignerSet
from cloister.rpc.files import read_public

Document = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A draft of a policy or signer set, a manifest.json, or what 'sign' made."),
]


def add_to(app: typer.Typer) -> None:
    """Give the `model` command these parts."""
    app.command(
        epilog=examples(
            "cloister model signers breast-cancer",
            "cloister model signers breast-cancer --threshold 2 --signer 5d1a...70 --signer 8c22...e4 "
            "--signer f09b...13 --draft signers.json",
        )
    )(signers)
    app.command(
        epilog=examples(
            "cloister model sign policy.json --key alice.pem",
            "cloister model sign policy.signed.json --key bob.pem",
            "cloister model sign sealed/breast-cancer-2/manifest.json --key bob.pem --out approval.json",
        )
    )(sign)
    app.command(epilog=examples("cloister model apply policy.signed.json", "cloister model apply signers.signed.json"))(
        apply
    )


def signers(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    threshold: Annotated[int, typer.Option(min=0, max=16, help="How many of the new signers must sign.")] = 0,
    signer: Annotated[
        list[str] | None, typer.Option(help="Ed25519 public key of a new signer, 64 hex digits; repeat.")
    ] = None,
    draft: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the next signer set there, to be signed.")
    ] = None,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show who signs for a model; with --draft, propose who is to sign from now on.

    A new set is signed by enough of those who signed before (at first the owner), and by enough of the new ones, which
    shows that they have their keys. From then on the owner's key alone changes nothing. 'cloister model sign' tells
    each signer the public key to name here.
    """
    mesh = Mesh.read(mesh_folder)
    owner = identity or mesh.identity("owner")
    check_place(draft)
    proposing = (draft is not None, threshold > 0, bool(signer))
    if any(proposing) and not all(proposing):
        raise typer.BadParameter("a new set has --threshold, --signer and --draft; to show the present one, name none")

    async def call() -> SignerSet:
        async with owner_connected(mesh, owner) as client:
            return await client.signers(name)

    present = asyncio.run(call())
    if draft is None:
        print_json(plain_signers(present)) if as_json else print_signers(present)
        return
    proposed = SignerSet(
        model_name=name,
        cluster=present.cluster,
        version=present.version + 1,
        threshold=threshold,
        keys=tuple(sorted(hex_32(signer or ()))),
    )
    draft.write_bytes(signer_set_draft(proposed))
    print_signers(proposed)
    now = f"{present.threshold} of signer set {present.version}" if present.version else "the owner's key"
    say(f"{draft} is to be signed by {now}, and by {threshold} of the new ones: cloister model sign {draft} --key ...")


def sign(
    file: Document,
    key: Annotated[Path, typer.Option(help="Your Ed25519 private key in PEM, mode 0600, without a passphrase.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write it. (default: beside a draft as .signed.json; else FILE)"),
    ] = None,
) -> None:
    """Add your signature to a policy, a signer set or the manifest of a new version. Asks nobody.

    Says what you sign, and the public key that you sign with. Several people sign one after another, each what the
    one before has made.
    """
    document = _opened(file)
    signer = key_in(key)
    path = out or (file if document.envelope else file.with_suffix(".signed.json"))
    check_place(path)
    if not document.envelope and path.exists():
        document = _there(path, document)
    signed = document.signed(signer)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(signed.envelope)
    part.replace(path)
    _say_what(signed)
    say(f"{path} is signed by {len(signed.signers)}; your public key is {signer.public_key().public_bytes_raw().hex()}")


def apply(file: Document, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None) -> None:
    """Put a signed policy or signer set in force. The provisioner checks that enough of those have signed who may.

    The manifest of a new version is handed over with the version: 'cloister model publish FOLDER --approval FILE'.
    """
    document = _opened(file)
    if not document.envelope:
        raise Stop(f"nobody has signed {file} yet: 'cloister model sign {file} --key KEY.pem'", ExitCode.USAGE)
    if document.kind is DocumentKind.MANIFEST:
        raise Stop(
            f"{file} approves of a new version: 'cloister model publish FOLDER --approval {file}'", ExitCode.USAGE
        )
    mesh = Mesh.read(mesh_folder)
    owner = identity or mesh.identity("owner")

    async def call() -> int:
        async with owner_connected(mesh, owner) as client:
            return await client.apply(document)

    try:
        line = asyncio.run(call())
    except InvalidRequest as error:
        if error.reason != "signature.insufficient":
            raise
        raise Stop(f"{error} ({error.reason}); the next one signs: cloister model sign {file} --key KEY.pem") from error
    _say_what(document)
    say(f"it holds from now on (line {line} of the provisioner's record)", "bold")


def _opened(file: Path) -> OwnerDocument:
    try:
        return read_document(read_public(file))
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error


def _there(path: Path, draft: OwnerDocument) -> OwnerDocument:
    """What others have signed stays signed; raises Stop where `path` holds something else."""
    found = _opened(path)
    if not found.envelope or (found.kind, found.content) != (draft.kind, draft.content):
        raise Stop(f"{path} holds something else, and was left as it is; move it away, or name another with --out")
    return found


def _say_what(document: OwnerDocument) -> None:
    if document.kind is DocumentKind.POLICY:
        policy = document.policy()
        print_policy(policy)
        if policy.allow_simulated:
            warn("Simulated workers may have the key: whoever owns their machine can read it, and the model.")
    elif document.kind is DocumentKind.SIGNER_SET:
        print_signers(document.signer_set())
    else:
        say(document.content.decode(errors="replace"))
