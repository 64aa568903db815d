"""Options that weaken an enclave, or tell the host of it: each with a reason, and none in the hardened set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.manifest_view import ManifestView
from cloister.enclave.rule import Check, Objection, Rule

_WEAK: Final = ("insecure__", "experimental__", "debug__")
_LEVELS: Final = (None, "none", "error")

_ASLR: Final = "loader.insecure__disable_aslr"
_EVENTFD: Final = "sys.insecure__allow_eventfd"
_RPC_THREADS: Final = "sgx.insecure__rpc_thread_num"
_FAULTS: Final = "sgx.insecure__allow_memfaults_without_exinfo"
_OF_OTHER_RULES: Final = frozenset(
    {"loader.insecure__use_host_env", "loader.insecure__use_cmdline_argv", _ASLR, _EVENTFD, _RPC_THREADS, _FAULTS}
)


def _weak(manifest: ManifestView) -> Iterator[Objection]:
    for key in _keys(manifest.table, ""):
        if key.rpartition(".")[2].startswith(_WEAK) and key not in _OF_OTHER_RULES:
            yield from _unexcused(key, manifest=manifest)


def _unexcused(*keys: str, manifest: ManifestView) -> Iterator[Objection]:
    """Those of these options that are set, and that nobody has written a reason for."""
    for key in keys:
        if manifest.value(key) and not manifest.excused(key):
            hardened = manifest.enclave_set is EnclaveSet.HARDENED
            yield Objection(key, "is set in the hardened set" if hardened else "is set, and no reason is written down")


def _option(*keys: str) -> Check:
    def check(manifest: ManifestView) -> Iterator[Objection]:
        return _unexcused(*keys, manifest=manifest)

    return check


def _on(key: str, manifest: ManifestView) -> Iterator[Objection]:
    """A switch that must be on, and is off where a manifest says nothing."""
    if manifest.value(key) is not True:
        yield Objection(key, "is not on")


def _profile(manifest: ManifestView) -> Iterator[Objection]:
    if manifest.value("sgx.profile.enable") not in (None, "none") and not manifest.excused("sgx.profile.enable"):
        yield Objection("sgx.profile.enable", 'is not "none"')
    yield from _unexcused("sgx.enable_stats", "sgx.vtune_profile", manifest=manifest)


def _log_level(manifest: ManifestView) -> Iterator[Objection]:
    open_anyhow = manifest.enclave_set in (EnclaveSet.DEBUG, EnclaveSet.SIMULATED)
    if manifest.value("loader.log_level") not in (*_LEVELS, *(("warning",) if open_anyhow else ())):
        yield Objection("loader.log_level", "has Gramine say more than errors")


def _reasons(manifest: ManifestView) -> Iterator[Objection]:
    for key in manifest.reasons:
        if not manifest.value(key):
            yield Objection(key, "is given a reason, and is not set")


def _keys(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in table.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")


_REASON: Final = 'Take it out; outside the hardened set, write why into NAME.reasons.toml: "the.key" = "a sentence".'

RULES: Final = (
    Rule(
        "M40",
        "Options named insecure__, experimental__ or debug__ have a written reason, and are never in the hardened set",
        "Gramine names them so because with them it does not keep its promise.",
        _REASON,
        _weak,
    ),
    Rule(
        "M41",
        "Addresses are random (ASLR)",
        "Whoever finds an overflow in a library knows where everything else lies.",
        _REASON,
        _option(_ASLR),
    ),
    Rule(
        "M42",
        "Event descriptors are Gramine's own",
        "With sys.insecure__allow_eventfd the host wakes threads that nobody woke, and lets others sleep.",
        _REASON,
        _option(_EVENTFD),
    ),
    Rule(
        "M43",
        "System calls leave the enclave by its door",
        "Threads for exitless calls read and write memory of the host's in ways that leak (INTEL-SA-00615, "
        "INTEL-SA-00657).",
        _REASON,
        _option(_RPC_THREADS),
    ),
    Rule(
        "M44",
        "Faults end the enclave",
        "With EXINFO, handlers print registers and stacks; without it and allowed all the same, the host makes up "
        "faults.",
        _REASON,
        _option("sgx.use_exinfo", _FAULTS),
    ),
    Rule(
        "M45",
        "Nothing counts, samples or profiles the enclave",
        "Where and how often it stops tells what it computes on.",
        _REASON,
        _profile,
    ),
    Rule(
        "M46",
        "Gramine logs errors only",
        "At other levels it tells the host of files, calls and their arguments.",
        'Set loader.log_level = "error".',
        _log_level,
    ),
    Rule(
        "M47",
        "The program starts no other",
        "A child is another enclave, of the same keys; and libraries that would start one fall back on what they "
        "are tested with here.",
        "Set sys.disallow_subprocesses = true.",
        partial(_on, "sys.disallow_subprocesses"),
    ),
    Rule(
        "M48",
        "SIGTERM reaches the program",
        "Without it an enclave is only ever killed: requests under way are lost, and the mesh hears nothing.",
        "Set sys.enable_sigterm_injection = true.",
        partial(_on, "sys.enable_sigterm_injection"),
    ),
    Rule(
        "M49",
        "Reasons are of options that are set",
        "A reason that outlives its option excuses it unseen when it comes back.",
        "Take the line out of NAME.reasons.toml.",
        _reasons,
    ),
)
