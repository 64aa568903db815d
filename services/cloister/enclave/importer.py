"""What brings secrets into a service's encrypted state, held against the service before anybody signs it.

It is of the service's product and signer, so whatever is signed in its place reads that state, and is believed where
policies name the signer. Its MRENCLAVE stands in no measurement that could be compared, since it hangs on the secrets'
digests. So who signs it sees by its manifest that it is the service's enclave, but for what an importer must have
otherwise, and Gramine says that this manifest is what is signed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from cloister.enclave import gramine, signing
from cloister.enclave.check import check_folder
from cloister.enclave.kinds import IMPORTING, INSIDE, Kind, Place
from cloister.enclave.measurement import FOR_SGX, Measurement
from cloister.enclave.signers import Signer, new_key
from cloister.enclave.sigstruct import Sigstruct
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.enclave_state import KEY

_MOUNTED: Final = f"{INSIDE}/import"
_HOSTS: Final = f"{INSIDE}/host/"
_IMPORTED: Final = "file:import/"


def sign_all(folder: Path, signer: Signer) -> Measurement:
    """Sign an enclave, and its importer if one lies beside it.

    Raises:
        CloisterError: As `signing.sign`; and as `check_importer`, before anything is signed.
    """
    importer = Measurement.read(folder).kind.importer
    signing.to_sign(folder)
    if signing.unsigned_file(folder, importer).exists():
        checked = check_importer(folder)
        signing.add_signature(folder, signer.modulus, signer.sign(checked.to_sign), importer=True)
    return signing.sign(folder, signer)


def check_importer(folder: Path) -> Sigstruct:
    """Check that what is to be signed as an importer is one, and of the service beside it.

    Returns:
        It, to be signed as it was seen here.

    Raises:
        NotReady: It cannot be seen here: the Gramine that measured it is missing, or files of the folder are
            (`gramine.missing`, `enclave.incomplete`).
        InvalidRequest: It is something else (`importer.mismatched`), or the folder is not as it was measured
            (as `check_folder`).
    """
    measured = Measurement.read(folder)
    name = measured.kind.importer
    if not _secrets(measured.kind):
        raise _mismatched(f"a {measured.kind.name} has no secrets to bring in, and {name} is no part of it")
    manifest, service = folder / f"{name}.manifest", folder / f"{measured.kind.name}{FOR_SGX}"
    if not (manifest.is_file() and service.is_file()):
        raise NotReady(
            f"{name} is signed beside the whole enclave, and {folder} does not hold its manifests; take "
            f"{name}.unsigned.sig away to sign the {measured.kind.name} alone",
            reason="enclave.incomplete",
        )
    if not check_folder(folder).measured_again:
        raise NotReady(
            f"{name} is signed where the Gramine is that measured it, and the files are as they were: nobody could see "
            "here what it is",
            reason="gramine.missing",
        )
    unsigned = signing.to_sign(folder, importer=True)
    text, sigstruct = gramine.measure(manifest, new_key())
    if sigstruct.unsigned() != unsigned.unsigned():
        raise _mismatched("the SIGSTRUCT is about another enclave than its manifest")
    check_manifest(tomllib.loads(text.decode()), tomllib.loads(service.read_text()), measured.kind)
    return unsigned


def check_manifest(importer: dict[str, Any], service: dict[str, Any], kind: Kind) -> None:
    """Check that two manifests for SGX, of importer and service, differ in what they must, and in nothing else.

    Raises:
        InvalidRequest: Reason `importer.mismatched`.
    """
    found, wanted = deepcopy(importer), deepcopy(service)
    secrets = [each["uri"] for each in _taken(found["sgx"], "trusted_files", "uri", _IMPORTED)]
    mounts = _taken(found["fs"], "mounts", "path", _MOUNTED)
    if [(each["path"], each["uri"]) for each in mounts] != [(_MOUNTED, "file:import")]:
        raise _mismatched(f"it does not mount file:import at {_MOUNTED}, or more than that")
    for uri in secrets:
        if uri.removeprefix(_IMPORTED).split("/")[0] not in _secrets(kind):
            raise _mismatched(f"{uri} is no secret of a {kind.name}")
    _taken(wanted["fs"], "mounts", "path", _HOSTS)
    _taken(wanted["fs"], "mounts", "path", f"{INSIDE}/{Place.STATE}")
    wanted["sgx"]["allowed_files"] = []
    wanted["loader"]["argv"] = [
        *_interpreter(wanted["loader"]["argv"]),
        IMPORTING,
        _MOUNTED,
        f"{INSIDE}/{Place.SEALED}",
    ]
    environment = wanted["loader"]["env"]
    wanted["loader"]["env"] = {key: value for key, value in environment.items() if value != {"passthrough": True}}
    for section in sorted(found.keys() | wanted.keys()):
        _check_section(section, found.get(section, {}), wanted.get(section, {}))


def _check_section(section: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            raise _mismatched(f"{section}.{key} is not what an importer of this service has")


def _secrets(kind: Kind) -> frozenset[str]:
    if not kind.module:
        return frozenset()
    return frozenset((*kind.sealed, KEY) if kind.state else kind.sealed)


def _interpreter(argv: Sequence[str]) -> Sequence[str]:
    """Python and its options, up to `-m`."""
    return argv[: argv.index("-m") + 1] if "-m" in argv else argv


def _taken(table: dict[str, Any], key: str, name: str, beginning: str) -> list[Any]:
    """Take those entries out of a list whose `name` begins so."""
    taken = [each for each in table[key] if each[name].startswith(beginning)]
    table[key] = [each for each in table[key] if each not in taken]
    return taken


def _mismatched(what: str) -> InvalidRequest:
    return InvalidRequest(f"this is no importer to sign: {what}", reason="importer.mismatched")
