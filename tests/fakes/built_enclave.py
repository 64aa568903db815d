"""An enclave's folder as `cloister enclave build` leaves it, of small files; what Gramine would say is made up."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cloister.enclave.kinds import WORKER, EnclaveSet, Kind
from cloister.enclave.measurement import FOR_SGX, FileDigest, Measurement, manifest_options, measure_files
from cloister.enclave.signers import KeySigner, new_key
from cloister.enclave.signing import signed_file, unsigned_file
from cloister.enclave.sigstruct import Sigstruct

CODE = {
    "gramine/libc.so.6": "c library",
    "gramine/libsysdb.so": "library os",
    "mesh/settings.toml": "cluster = 'demo'",
    "root/bin/python3.11": "python",
    "root/lib/python3.11/numpy/core.py": "numbers = 1",
    "root/lib/python3.11/os.py": "import sys",
}
_MANIFEST = """\
libos.entrypoint = "/cloister/root/bin/python3.11"
loader.entrypoint.uri = "file:gramine/libsysdb.so"
loader.entrypoint.sha256 = "{libos}"
fs.mounts = [ {{ path = "/lib", uri = "file:gramine" }} ]
sgx.max_threads = {threads}
sgx.trusted_files = [
{trusted}
]
"""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What to build; `code` is put over `CODE`, and what is None there is left out. A debug set needs a key."""

    kind: Kind = WORKER
    enclave_set: EnclaveSet = EnclaveSet.HARDENED
    code: dict[str, str | None] | None = None
    threads: int = 32
    isvsvn: int = 1
    debug_key: KeySigner | None = None

    def into(self, folder: Path) -> Measurement:
        """Make the folder."""
        for path, text in {**CODE, **(self.code or {})}.items():
            if text is not None:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text)
        manifest = self._manifest(folder)
        (folder / f"{self.kind.name}.manifest").write_text(manifest)
        if self.enclave_set is not EnclaveSet.SIMULATED:
            (folder / f"{self.kind.name}{FOR_SGX}").write_text(manifest)
        debug = self.enclave_set is EnclaveSet.DEBUG
        sigstruct = self.sigstruct(sha256(manifest.encode()).digest())
        measured = Measurement(
            kind=self.kind,
            enclave_set=self.enclave_set,
            mrenclave=sigstruct.enclavehash.hex(),
            mrsigner=None,
            isvprodid=sigstruct.isvprodid,
            isvsvn=self.isvsvn,
            debug=debug,
            gramine="1.9",
            loader=FileDigest(sha256(b"loader").hexdigest(), 6),
            options=manifest_options(manifest),
            files=measure_files(folder, self.kind),
        )
        measured.write(folder)
        if self.enclave_set is not EnclaveSet.SIMULATED:
            if debug:
                key = self.debug_key or new_key()
                sigstruct = sigstruct.with_signature(key.modulus, key.sign(sigstruct.to_sign))
            place = signed_file if debug else unsigned_file
            place(folder, self.kind.name).write_bytes(sigstruct.encode())
        return measured

    def sigstruct(self, mrenclave: bytes) -> Sigstruct:
        """What the signer is to say of it."""
        flags = 0x4 | (0x2 if self.enclave_set is EnclaveSet.DEBUG else 0)
        return Sigstruct(
            attributes=flags.to_bytes(8, "little") + bytes(8),
            attributemask=bytes([255]) * 16,
            enclavehash=mrenclave,
            isvprodid=self.kind.product_in(self.enclave_set),
            isvsvn=self.isvsvn,
        )

    def _manifest(self, folder: Path) -> str:
        paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        digests = {path: sha256((folder / path).read_bytes()).hexdigest() for path in paths if "/" in path}
        libos = digests.pop("gramine/libsysdb.so", "")
        trusted = "\n".join(f'  {{ uri = "file:{path}", sha256 = "{digest}" }},' for path, digest in digests.items())
        return _MANIFEST.format(libos=libos, threads=self.threads, trusted=trusted)
