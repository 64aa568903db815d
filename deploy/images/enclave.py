"""What the image of an enclave is made of: the enclave as it was signed, and of Gramine what starts it.

    python deploy/images/enclave.py ENCLAVE INTO [--gramine ROOT]

puts into INTO, by their paths in the image, what was measured, its manifest, its signature and its measurement, and
three files of Gramine: the program of the enclave's set, its loader, and what SGX loads first. That last one must be
what the enclave was measured with, so whichever Gramine it comes from, the image starts what was signed or is not made.
Nothing that measures, signs or debugs comes along. Left out as well are links to files of this machine, and what brings
secrets in, whose manifest has their digests. Prints the enclave's kind, set and MRENCLAVE.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

from cloister.enclave import gramine, signing
from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.measurement import FOR_SGX, MEASURED_FOLDERS, NAME, FileDigest, Measurement
from cloister.enclave.run import checked
from cloister.errors import CloisterError, InvalidRequest, NotReady

_HARD_CODED = re.compile(r"^(?:PAL_CMD|LIBPAL_PATH)=(/\S+)$", re.MULTILINE)
"""Where Gramine's program, a shell script, has its loader and what that loads."""
_PROGRAM = Path("usr/bin")


def stage(enclave: Path, into: Path, root: Path) -> Measurement:
    """Put an enclave and its Gramine into a folder.

    Args:
        enclave: As it was built, and signed if it is not simulated.
        into: Made anew.
        root: Folder that Gramine's package was unpacked into; `/` for the one of this machine.

    Raises:
        NotReady: It is not signed, or this is no Gramine.
        InvalidRequest: It, or Gramine, is not what was measured (`measurement.mismatched`).
    """
    measured = checked(enclave)
    shutil.rmtree(into, ignore_errors=True)
    for name in MEASURED_FOLDERS:
        shutil.copytree(enclave / name, into / "enclave" / name)
    manifests = (enclave / f"{measured.kind.name}{form}" for form in (".manifest", FOR_SGX))
    sigstructs = (of(enclave, measured.kind.name) for of in (signing.unsigned_file, signing.signed_file))
    for path in (*manifests, *sigstructs, enclave / NAME):
        if path.exists():
            _copy(path, into / "enclave" / path.name)
    _stage_gramine(measured, into, root)
    for path in into.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return measured


def _stage_gramine(measured: Measurement, into: Path, root: Path) -> None:
    simulated = measured.enclave_set is EnclaveSet.SIMULATED
    name = gramine.DIRECT if simulated else gramine.SGX
    program = _program(name, root)
    places = [Path(place).relative_to("/") for place in _HARD_CODED.findall(program.read_text())]
    loaded = [place for place in places if place.name == "libpal.so"]
    if len(places) != 2 or len(loaded) != 1:
        raise NotReady(f"{program} is no program of Gramine's that is known here", reason="gramine.missing")
    # Each set has its own; the one for SGX is what was measured, also of an enclave that is to run without.
    for_sgx = root / loaded[0].parent.parent / "sgx" / loaded[0].name
    if FileDigest.of(for_sgx) != measured.loader:
        raise InvalidRequest(
            f"{for_sgx} is another than the enclave was measured with, by Gramine {measured.gramine}: name a folder "
            "with that very build by GRAMINE=",
            reason="measurement.mismatched",
        )
    _copy(program, into / _PROGRAM / name)
    for place in places:
        _copy(root / place, into / place)


def _program(name: str, root: Path) -> Path:
    if root == Path("/"):
        return Path(gramine.program(name)).resolve()
    return root / _PROGRAM / name


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def main() -> int:
    """Stage what the words of the command say."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("enclave", type=Path)
    words.add_argument("into", type=Path)
    words.add_argument("--gramine", type=Path, default=Path("/"))
    given = words.parse_args()
    try:
        measured = stage(given.enclave, given.into, given.gramine)
    except (CloisterError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{measured.kind.name} {measured.enclave_set} {measured.mrenclave}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
