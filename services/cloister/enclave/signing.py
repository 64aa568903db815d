"""Signing an enclave that was built for production; elsewhere than where it was built, if need be.

What is signed are 256 bytes that `build` has left in the folder, so a signing machine needs two files of it, or no more
than those bytes. Only a hardened enclave can be signed: a debug one was signed when it was built, by a key that is gone
since, and a simulated one never is. So a key that signs here has signed nothing that is open to a debugger.

A service with secrets has a second enclave in its folder, the importer, which brings them in. It is of the same
product, and must be of the same signer: else it could not write what the service reads.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.measurement import Measurement
from cloister.enclave.signers import Signer
from cloister.enclave.sigstruct import Sigstruct
from cloister.errors import InvalidRequest, NotReady

_WHY_NOT: Final = {
    EnclaveSet.DEBUG: "a debug enclave: it was signed when it was built, by a key that nobody has any more",
    EnclaveSet.SIMULATED: "a simulated enclave: it is never signed, for nothing vouches for it",
}


def unsigned_file(folder: Path, name: str) -> Path:
    """The SIGSTRUCT as it is to be signed; `name` is that of the manifest."""
    return folder / f"{name}.unsigned.sig"


def signed_file(folder: Path, name: str) -> Path:
    """The SIGSTRUCT that Gramine starts an enclave with."""
    return folder / f"{name}.sig"


def to_sign(folder: Path, *, importer: bool = False) -> Sigstruct:
    """What there is to sign in an enclave's folder.

    Args:
        folder: As `build` has left it.
        importer: Of the enclave that brings secrets in, in place of the service.

    Raises:
        NotReady: Nothing was built there.
        InvalidRequest: Reason `enclave.not_hardened`, `enclave.open`, or `measurement.mismatched` where the SIGSTRUCT
            is not that of the measurement.
    """
    measured = Measurement.read(folder)
    if measured.enclave_set is not EnclaveSet.HARDENED:
        raise InvalidRequest(f"{folder} holds {_WHY_NOT[measured.enclave_set]}", reason="enclave.not_hardened")
    found = read_sigstruct(unsigned_file(folder, _name(measured, importer=importer)))
    (check_product if importer else check_identity)(found, measured)
    found.check_production()
    return found


def sign(folder: Path, signer: Signer) -> Measurement:
    """Sign an enclave, without its importer; the measurement names the signer from then on.

    Raises:
        NotReady: As `to_sign`, like InvalidRequest.
    """
    unsigned = to_sign(folder)
    return _keep(folder, unsigned.with_signature(signer.modulus, signer.sign(unsigned.to_sign)), importer=False)


def add_signature(folder: Path, modulus: int, signature: bytes, *, importer: bool = False) -> Measurement:
    """Complete an enclave with a signature that was made elsewhere, over `to_sign(folder).to_sign`.

    Args:
        folder: The enclave's.
        modulus: Of the key that signed.
        signature: RSA, PKCS#1 v1.5, SHA-256; 384 bytes, big-endian, as OpenSSL and tokens give it.
        importer: As in `to_sign`.

    Raises:
        InvalidRequest: It does not hold (`sigstruct.forged`), or as `to_sign`.
    """
    return _keep(folder, to_sign(folder, importer=importer).with_signature(modulus, signature), importer=importer)


def read_sigstruct(path: Path) -> Sigstruct:
    """The SIGSTRUCT in a file; raises NotReady (`sigstruct.missing`) or InvalidRequest (`sigstruct.malformed`)."""
    try:
        return Sigstruct.parse(path.read_bytes())
    except OSError as error:
        raise NotReady(f"{path} cannot be read: {error.strerror}", reason="sigstruct.missing") from error


def check_identity(found: Sigstruct, measured: Measurement) -> None:
    """Check that a SIGSTRUCT is about what was measured, and that this is what its kind and set have.

    Raises:
        InvalidRequest: Reason `measurement.mismatched`.
    """
    if found.enclavehash.hex() != measured.mrenclave:
        raise _mismatched("the SIGSTRUCT is about another enclave than was measured")
    check_product(found, measured)


def check_product(found: Sigstruct, measured: Measurement) -> None:
    """Check that a SIGSTRUCT is of the product that was measured; raises as `check_identity`."""
    if (found.isvprodid, found.isvsvn, found.debug) != (measured.isvprodid, measured.isvsvn, measured.debug):
        raise _mismatched("the SIGSTRUCT is about another product than was measured")
    product, debug = measured.kind.product_in(measured.enclave_set), measured.enclave_set is EnclaveSet.DEBUG
    if (measured.isvprodid, measured.debug) != (product, debug):
        raise _mismatched(
            f"a {measured.enclave_set} {measured.kind.name} has ISVPRODID {product}, and debug is {debug}; this has "
            f"{measured.isvprodid} and {measured.debug}"
        )


def _keep(folder: Path, signed: Sigstruct, *, importer: bool) -> Measurement:
    measured = Measurement.read(folder)
    place = signed_file(folder, _name(measured, importer=importer))
    part = place.with_name(f".{place.name}.part")
    part.write_bytes(signed.encode())
    part.replace(place)
    if importer:
        return measured
    measured = replace(measured, mrsigner=signed.mrsigner.hex())
    measured.write(folder)
    return measured


def _name(measured: Measurement, *, importer: bool) -> str:
    return measured.kind.importer if importer else measured.kind.name


def _mismatched(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason="measurement.mismatched")
