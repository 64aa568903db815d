"""`cloister enclave sign`: with a key from a file or a token, or on a machine that sees 256 bytes and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloister.cli.enclave_words import print_measurement
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.options import check_place, examples
from cloister.cli.output import say
from cloister.cli.preparing import extras
from cloister.enclave import signing
from cloister.enclave.importer import check_importer, sign_all
from cloister.enclave.measurement import Measurement
from cloister.enclave.signers import key_in, public_key_in
from cloister.enclave.token_uri import SCHEME
from cloister.errors import NotReady


def add_to(app: typer.Typer) -> None:
    """Give the `enclave` command this part."""
    app.command(
        epilog=examples(
            "cloister enclave sign enclaves/worker --key signer.pem",
            "cloister enclave sign enclaves/worker --key "
            "'pkcs11:token=hsm;object=cloister?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:pin'",
            "cloister enclave sign enclaves/worker --to-sign worker.bytes",
            "cloister enclave sign enclaves/worker --signature worker.signature --public-key signer.pub",
        )
    )(sign)


def sign(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a hardened enclave, as 'build' makes it.")],
    key: Annotated[
        str,
        typer.Option(metavar="FILE|URI", help="RSA-3072 key, exponent 3: PEM, mode 0600; or pkcs11:... in a token."),
    ] = "",
    to_sign: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sign elsewhere: write the bytes that are to be signed.")
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Signed elsewhere: RSA, PKCS#1 v1.5, SHA-256, as openssl gives it."),
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key that --signature is of: PEM.")
    ] = None,
    importer: Annotated[
        bool, typer.Option("--importer", help="Elsewhere: what brings the service's secrets in. --key signs both.")
    ] = False,
) -> None:
    """Sign an enclave for production. MRENCLAVE stays; MRSIGNER is the digest of the key.

    Only the hardened set is signed: a debug enclave was when it was built, by a key that is gone, and a simulated one
    never is. A signing machine needs measurement.json and the .unsigned.sig beside it, or only what --to-sign writes.
    What brings secrets in is signed only where the whole folder and Gramine are: it is held against the service first.
    """
    ways = (bool(key), to_sign is not None, signature is not None)
    if sum(ways) != 1 or (signature is None) != (public_key is None):
        raise Stop("name one of --key, --to-sign, or --signature with --public-key", ExitCode.USAGE)
    if to_sign is not None:
        _write(folder, to_sign, importer=importer)
    elif signature is not None and public_key is not None:
        made = (public_key_in(public_key), _read(signature))
        print_measurement(signing.add_signature(folder, *made, importer=importer), folder)
    else:
        print_measurement(_signed(folder, key), folder)


def _write(folder: Path, to_sign: Path, *, importer: bool) -> None:
    check_place(to_sign)
    unsigned = signing.to_sign(folder, importer=importer)
    if importer:
        unsigned = check_importer(folder)
    to_sign.write_bytes(unsigned.to_sign)
    say(f"{to_sign} is to be signed, for MRENCLAVE {unsigned.enclavehash.hex()}", "bold")
    say(f"openssl dgst -sha256 -sign KEY -out SIGNATURE {to_sign}")


def _signed(folder: Path, key: str) -> Measurement:
    try:
        if not key.startswith(SCHEME):
            return sign_all(folder, key_in(Path(key)))
        with extras("enclave"):
            from cloister.enclave import hardware_signer
        with hardware_signer.opened(key) as signer:
            return sign_all(folder, signer)
    except NotReady as error:
        raise Stop(f"{error} ({error.reason})", ExitCode.USAGE) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Stop(f"{path} cannot be read: {error.strerror}", ExitCode.USAGE) from error
