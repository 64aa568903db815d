"""What the program sees where: nothing simulated where it counts, no root of the host's, memory for scratch."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterator
from typing import Final

from cloister.enclave.kinds import INSIDE, EnclaveSet, Place
from cloister.enclave.manifest_view import ManifestView, Mount, overlap, path_of, within
from cloister.enclave.rule import Objection, Rule
from cloister.kit.enclave_state import KEY_NAME
from cloister.kit.enclave_state import SEALED as SEALED_AT

ATTESTATION: Final = "/dev/attestation"
SCRATCH: Final = ("/tmp", "/dev/shm")  # noqa: S108 - looked at, not used
_GRAMINES: Final = ("/dev", "/proc", "/sys")
_SHM: Final = "/dev/shm"  # noqa: S108 - the same
_TEMPORARY: Final = ("HOME", "TMPDIR", "TMP", "TEMP")
_SEALING: Final = frozenset({"_sgx_mrsigner", "_sgx_mrenclave"})


def _root(manifest: ManifestView) -> Iterator[Objection]:
    root = manifest.value("fs.root")
    if not isinstance(root, dict):
        yield Objection("fs.root", "is missing, so that the folder Gramine is started in is the root")
    elif root.get("type") not in ("tmpfs", "encrypted"):
        yield Objection("fs.root", "is a folder of the host's")


def _simulated(manifest: ManifestView) -> Iterator[Objection]:
    """Mounts over what Gramine itself provides. `/dev/shm` is scratch."""
    for mount in manifest.mounts:
        if mount.key == "fs.root" or not mount.path:
            continue
        if manifest.enclave_set is EnclaveSet.SIMULATED and within(mount.path, ATTESTATION):
            continue
        if mount.path == _SHM and mount.type == "tmpfs":
            continue
        covered = next((path for path in _GRAMINES if overlap(mount.path, path)), None)
        if covered is not None:
            yield Objection(mount.key, f"'{mount.path}' lies over Gramine's own {covered}")


def _devices(manifest: ManifestView) -> Iterator[Objection]:
    for mount in manifest.mounts:
        if mount.type == "untrusted_shm" or mount.uri.startswith("dev:"):
            yield Objection(mount.key, f"'{mount.path}' is memory or a device of the host's")
    for key, uri in manifest.allowed:
        if uri.startswith("dev:"):
            yield Objection(key, f"'{uri}' is a device of the host's")
    if manifest.value("sys.allowed_ioctls"):
        yield Objection("sys.allowed_ioctls", "hands calls on to devices of the host's")


def _scratch(manifest: ManifestView) -> Iterator[Objection]:
    allowed = [path_of(uri) for _, uri in manifest.allowed]
    for name in _TEMPORARY:
        value = manifest.environment.get(name)
        place = manifest.host_path(posixpath.normpath(value)) if value else ""
        if any(overlap(place, path) for path in allowed):
            yield Objection(f"loader.env.{name}", "leads to a folder of the host's")
    for mount in manifest.mounts:
        if mount.type != "tmpfs" and any(mount.path != path and within(mount.path, path) for path in SCRATCH):
            yield Objection(mount.key, f"'{mount.path}' is a folder of the host's in the midst of scratch")
    in_memory = {mount.path for mount in manifest.mounts if mount.type == "tmpfs"}
    for path in SCRATCH:
        if path not in in_memory:
            yield Objection("fs.mounts", f"has no tmpfs at {path}")


def _keys(manifest: ManifestView) -> Iterator[Objection]:
    written = manifest.value("fs.insecure__keys")
    written = written if isinstance(written, dict) else {}
    simulated = manifest.enclave_set is EnclaveSet.SIMULATED
    encrypted = {mount.path for mount in manifest.mounts if mount.type == "encrypted"}
    for place in _kept(manifest):
        if place not in encrypted:
            yield Objection("fs.mounts", f"has nothing encrypted at {place}, where the service keeps what is secret")
    for mount in manifest.mounts:
        if mount.type != "encrypted":
            continue
        if not mount.key_name:
            yield Objection(mount.key, f"'{mount.path}' names no key")
        elif mount.key_name in written and not simulated:
            yield Objection(mount.key, f"'{mount.path}' is encrypted with a key that the manifest holds")
        elif mount.key_name.startswith("_") and mount.key_name not in _SEALING:
            yield Objection(mount.key, f"'{mount.path}': there is no key '{mount.key_name}'")
        elif mount.key_name == KEY_NAME and manifest.kind is not None and manifest.kind.state:
            if not _has_sealed(manifest):
                yield Objection(mount.key, f"'{mount.path}' has a key that is brought in, and no {SEALED_AT} has it")
        elif mount.key_name not in _SEALING and manifest.kind is not None and not simulated:
            yield Objection(mount.key, f"'{mount.path}' is not encrypted with a sealing key")


def _kept(manifest: ManifestView) -> Iterator[str]:
    kind = manifest.kind
    if kind is not None and kind.sealed:
        yield f"{INSIDE}/{Place.SEALED}"
    if kind is not None and kind.state and not manifest.importing:
        yield f"{INSIDE}/{Place.STATE}"


def _has_sealed(manifest: ManifestView) -> bool:
    """Whether there is a place for the key of the state that the host cannot read or write."""
    simulated = manifest.enclave_set is EnclaveSet.SIMULATED
    return any(
        mount.type == "encrypted" and mount.path == str(SEALED_AT) and (simulated or mount.key_name in _SEALING)
        for mount in manifest.mounts
    )


def _encrypted_apart(manifest: ManifestView) -> Iterator[Objection]:
    encrypted = [mount for mount in manifest.mounts if mount.type == "encrypted"]
    for first, second in itertools.combinations(encrypted, 2):
        if overlap(path_of(first.uri), path_of(second.uri)):
            yield Objection(second.key, f"'{second.uri}' and '{first.uri}' of {first.key} are the same files")
    for key, uri in manifest.allowed:
        if any(overlap(path_of(uri), path_of(mount.uri)) for mount in encrypted):
            yield Objection(key, f"'{uri}' meets an encrypted mount")


def _hidden(manifest: ManifestView) -> Iterator[Objection]:
    mounts = [mount for mount in manifest.mounts if mount.key != "fs.root" and mount.path]
    for before, after in itertools.combinations(mounts, 2):
        if within(before.path, after.path):
            yield Objection(after.key, f"'{after.path}' hides '{before.path}' of {before.key}")
        elif before.type != "tmpfs" and within(after.path, before.path) and _hosts(after, manifest):
            yield Objection(after.key, f"'{after.path}' puts a file of the host's into '{before.path}' of {before.key}")


def _hosts(mount: Mount, manifest: ManifestView) -> bool:
    return any(overlap(path_of(uri), path_of(mount.uri)) for _, uri in manifest.allowed)


RULES: Final = (
    Rule(
        "M30",
        "The root is memory, not a folder of the host's",
        "What the program looks for and the manifest forgot is then looked for on the host, /etc and all.",
        'Set fs.root = { type = "tmpfs" }, and mount what is used.',
        _root,
    ),
    Rule(
        "M31",
        "Nothing is mounted over /dev, /proc or /sys; over /dev/attestation in the simulated set alone",
        "Files in the place of Gramine's make quotes, keys or random numbers the host's.",
        "Take the mount out.",
        _simulated,
    ),
    Rule(
        "M32",
        "No memory and no device is shared with the host",
        "What is written there is the host's to read and to change, while the program looks at it.",
        "Take out untrusted_shm, dev: and sys.allowed_ioctls.",
        _devices,
    ),
    Rule(
        "M33",
        "Scratch folders, /tmp, /dev/shm and the home, are memory of the enclave",
        "Libraries write there, models and requests too; anywhere else that is a disk of the host's.",
        'Mount { type = "tmpfs", path = "/tmp" } and { type = "tmpfs", path = "/dev/shm" }.',
        _scratch,
    ),
    Rule(
        "M34",
        "State is encrypted, under a key that the host does not know",
        "Manifests are public, and so is a key that stands in one.",
        'Set key_name = "_sgx_mrsigner", or for state of this very build "_sgx_mrenclave"; "state", which our services '
        "set themselves, where an encrypted /cloister/sealed has one of these.",
        _keys,
    ),
    Rule(
        "M35",
        "Encrypted mounts are apart from each other and from what the host may change",
        "Gramine loses changes of files that are mounted twice, and hands out ciphertext where they are allowed.",
        "Give each a folder of its own.",
        _encrypted_apart,
    ),
    Rule(
        "M36",
        "No mount hides another, or puts what the host may change into it",
        "What was measured is not what the program sees.",
        "Mount each at a path of its own, the outer one first.",
        _hidden,
    ),
)
