"""Which enclave it is: keys that Gramine knows, the set, the product, DCAP, sealing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.manifest_view import ManifestView
from cloister.enclave.rule import Objection, Rule
from cloister.kit.environment import LABEL

_KEYS: Final[Mapping[str, type]] = {
    "fs.insecure__keys": dict,
    "fs.mounts": list,
    "fs.root": dict,
    "fs.start_dir": str,
    "libos.check_invalid_pointers": bool,
    "libos.entrypoint": str,
    "loader.argv": list,
    "loader.argv_src_file": str,
    "loader.entrypoint": dict,
    "loader.env": dict,
    "loader.env_src_file": str,
    "loader.gid": int,
    "loader.insecure__disable_aslr": bool,
    "loader.insecure__use_cmdline_argv": bool,
    "loader.insecure__use_host_env": bool,
    "loader.log_file": str,
    "loader.log_level": str,
    "loader.uid": int,
    "sgx.allowed_files": list,
    "sgx.cpu_features": dict,
    "sgx.debug": bool,
    "sgx.edmm_enable": bool,
    "sgx.enable_stats": bool,
    "sgx.enclave_size": str,
    "sgx.file_check_policy": str,
    "sgx.insecure__allow_memfaults_without_exinfo": bool,
    "sgx.insecure__rpc_thread_num": int,
    "sgx.isvprodid": int,
    "sgx.isvsvn": int,
    "sgx.max_threads": int,
    "sgx.preheat_enclave": bool,
    "sgx.profile": dict,
    "sgx.remote_attestation": str,
    "sgx.seal_key": dict,
    "sgx.trusted_files": list,
    "sgx.use_exinfo": bool,
    "sgx.vtune_profile": bool,
    "sys.allowed_ioctls": list,
    "sys.brk": dict,
    "sys.debug__mock_syscalls": list,
    "sys.disallow_subprocesses": bool,
    "sys.enable_extra_runtime_domain_names_conf": bool,
    "sys.enable_sigterm_injection": bool,
    "sys.experimental__enable_flock": bool,
    "sys.fds": dict,
    "sys.insecure__allow_eventfd": bool,
    "sys.ioctl_structs": dict,
    "sys.stack": dict,
}
"""Of Gramine 1.9."""
_SECTIONS: Final = frozenset(key.partition(".")[0] for key in _KEYS)
_KINDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    str: "a string",
    list: "a list",
    dict: "a table",
}
_SEAL_MASKS: Final = {"flags_mask": (1 << 64) - 1, "xfrm_mask": 0xFFFFFFFFFFF9FF1B, "misc_mask": (1 << 32) - 1}
"""What Gramine takes where a manifest says nothing."""


def _keys(manifest: ManifestView) -> Iterator[Objection]:
    for section, table in manifest.table.items():
        if section not in _SECTIONS or not isinstance(table, dict):
            yield Objection(section, f"is no section of a manifest{_near(section, _SECTIONS)}")
            continue
        for name, value in table.items():
            key = f"{section}.{name}"
            kind = _KEYS.get(key)
            if kind is None:
                yield Objection(key, f"is a key that Gramine does not know{_near(key, _KEYS)}")
            elif type(value) is not kind:
                yield Objection(key, f"is not {_KINDS[kind]}")
    yield from _entries(manifest)


def _entries(manifest: ManifestView) -> Iterator[Objection]:
    """Entries of lists that the other rules could not read."""
    for key, of in (("sgx.trusted_files", manifest.trusted), ("sgx.allowed_files", manifest.allowed)):
        rows = manifest.value(key)
        if isinstance(rows, list) and len(rows) != len(list(of)):
            yield Objection(key, "has an entry that names no file")
    rows = manifest.value("fs.mounts")
    mounts = [mount for mount in manifest.mounts if mount.key != "fs.root"]
    if isinstance(rows, list) and (len(rows) != len(mounts) or not all(mount.path for mount in mounts)):
        yield Objection("fs.mounts", "has an entry without an absolute path")
    for name, value in _table(manifest.value("loader.env")).items():
        if not isinstance(value, str) and value != {"passthrough": True} and value != {"value": _of(value)}:
            yield Objection(f"loader.env.{name}", "is neither a value nor { passthrough = true }")


def _label(manifest: ManifestView) -> Iterator[Objection]:
    key = f"loader.env.{LABEL}"
    if not manifest.ours:
        return
    if LABEL not in manifest.environment:
        yield Objection(key, "is missing: nothing says which set this enclave is of")
    elif manifest.enclave_set is None:
        kind = manifest.kind.name if manifest.kind is not None else "<kind>"
        labels = [f"'{kind} {enclave_set}'" for enclave_set in EnclaveSet]
        yield Objection(key, f"is none of {', '.join(labels)}, written into the manifest")


def _product(manifest: ManifestView) -> Iterator[Objection]:
    if manifest.kind is None or manifest.enclave_set is None:
        return
    wanted, found = manifest.kind.product_in(manifest.enclave_set), manifest.value("sgx.isvprodid")
    if found != wanted:
        of = f"a {manifest.kind.name} of the {manifest.enclave_set} set"
        yield Objection("sgx.isvprodid", f"is {found!r:.20}, and that of {of} is {wanted}")


def _debug(manifest: ManifestView) -> Iterator[Objection]:
    debug = manifest.value("sgx.debug") is True
    if debug and manifest.enclave_set is not EnclaveSet.DEBUG:
        yield Objection("sgx.debug", "is on, and this enclave is not of the debug set")
    elif not debug and manifest.enclave_set is EnclaveSet.DEBUG:
        yield Objection("sgx.debug", "is off, and this enclave is of the debug set")


def _dcap(manifest: ManifestView) -> Iterator[Objection]:
    if manifest.value("sgx.remote_attestation") != "dcap":
        yield Objection("sgx.remote_attestation", 'is not "dcap"')


def _seal_key(manifest: ManifestView) -> Iterator[Objection]:
    for name, value in _table(manifest.value("sgx.seal_key")).items():
        wanted = _SEAL_MASKS.get(name)
        if wanted is None or _number(value) != wanted:
            yield Objection(f"sgx.seal_key.{name}", "is not the mask that Gramine takes by itself")


def _number(text: object) -> int | None:
    try:
        return int(text, 16) if isinstance(text, str) else None
    except ValueError:
        return None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _of(value: Any) -> Any:
    """The string under `value`; something that equals nothing if there is none."""
    found = _table(value).get("value")
    return found if isinstance(found, str) else object()


def _near(key: str, known: Any) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


RULES: Final = (
    Rule(
        "M01",
        "Every key is one of Gramine 1.9, with a value of its type",
        "Gramine takes no notice of a key that it does not know: a restriction that is mistyped is none.",
        "Correct the key or its value, or take it out.",
        _keys,
    ),
    Rule(
        "M02",
        "A manifest of ours says which kind and set it is of",
        "The sets have other rules, and the service inside knows by the label that it is in an enclave.",
        f'Set loader.env.{LABEL} to the kind and the set: "worker hardened", say.',
        _label,
    ),
    Rule(
        "M03",
        "ISVPRODID is that of the kind and the set",
        "Policies tell kinds by it, and keys for sealing are derived from it: with another's, one service could open "
        "the state of another, or a debug enclave that of a hardened one.",
        "Set sgx.isvprodid to the number that cloister.enclave.kinds has for it.",
        _product,
    ),
    Rule(
        "M04",
        "Debug is on in the debug set, and nowhere else",
        "The host reads and writes all memory of a debug enclave.",
        "Take sgx.debug out, or build with the set that is meant.",
        _debug,
    ),
    Rule(
        "M05",
        "DCAP attestation is on",
        "Without it there are no quotes: nobody can tell the enclave from a program that says it is one.",
        'Set sgx.remote_attestation = "dcap".',
        _dcap,
    ),
    Rule(
        "M06",
        "The masks of sealing keys are Gramine's",
        "A mask that leaves DEBUG out gives a debug enclave, and so the host, the key that seals a production "
        "enclave's state.",
        "Take sgx.seal_key out.",
        _seal_key,
    ),
)
