"""What a production enclave must not carry: the simulator, tests, tools, private keys, roots and policies of a desk.

Attacks C13 and J11. The first look is at names, in zip files too; the second at what small files hold.
"""

from __future__ import annotations

import json
import re
import tomllib
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.x509.oid import NameOID

from cloister.enclave.code_paths import named_as_code
from cloister.enclave.contents import MeasuredFile, measured_files
from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.manifest_view import ManifestView
from cloister.enclave.rule import Objection, Rule

SIMULATOR: Final = "cloister_simulator"
SIMULATORS_NAME: Final = "Cloister Simulator, not Intel"
"""The organisation in every certificate that the simulator makes."""
_TESTS: Final = frozenset({"test", "tests", "testing", "test_utils", "idle_test"})
"""Folders."""
_TOOLS: Final = frozenset(
    {
        *("pip", "ensurepip", "setuptools", "pkg_resources", "wheel", "venv", "uv"),
        *("idlelib", "turtledemo", "lib2to3", "pdb", "bdb", "pydoc", "pydoc_data", "doctest", "unittest"),
        *("pytest", "_pytest", "debugpy", "pydevd", "ipython", "py_spy", "memray", "cProfile", "profile"),
    }
)
"""Modules and distributions."""
_PROGRAMS: Final = frozenset(
    {
        "gdb",
        "gdbserver",
        "strace",
        "ltrace",
        "perf",
        "valgrind",
        "sh",
        "bash",
        "dash",
        "busybox",
        "openssl",
        "socat",
        "nc",
    }
)
"""Files in a folder of programs."""
_PRIVATE: Final = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=\s:,-]{40,}-----END (?:[A-Z0-9]+ )?PRIVATE KEY-----"
)
_KEY_NAME: Final = re.compile(
    r"(.*[._-])?(private|root|signing)[._-]?key([._-].*)?|.*\.(key|p8|p12|pfx|key_file|passphrase_file)", re.IGNORECASE
)
_DER: Final = b"\x30"
_ANY_CODE: Final = "believes any code: it has no reference values"


def _simulator(manifest: ManifestView) -> Iterator[Objection]:
    if manifest.enclave_set is EnclaveSet.SIMULATED:
        return
    for file in measured_files(manifest):
        if any(part.startswith(SIMULATOR) for part in file.path.split("/")):
            yield Objection(file.key, f"'{file.path}' is of the simulator")
    words = manifest.value("loader.argv")
    for at, word in enumerate(words if isinstance(words, list) else ()):
        if SIMULATOR in str(word):
            yield Objection(f"loader.argv[{at}]", "runs the simulator")


def _tools(manifest: ManifestView) -> Iterator[Objection]:
    for file in measured_files(manifest):
        *folders, name = file.path.split("/")
        stems = {part.partition(".")[0].partition("-")[0] for part in (*folders, name)}
        if not _TESTS.isdisjoint(folders) or name == "conftest.py":
            yield Objection(file.key, f"'{file.path}' is of tests")
        elif not _TOOLS.isdisjoint(stems) or (name in _PROGRAMS and folders[-1:] in (["bin"], ["sbin"])):
            yield Objection(file.key, f"'{file.path}' is of an installer, a debugger or a shell")


def _private_keys(manifest: ManifestView) -> Iterator[Objection]:
    for file in measured_files(manifest):
        name = file.path.rpartition("/")[2]
        if manifest.importing and file.path.startswith("import/"):
            continue  # secrets that lie open until they are in the encrypted state, which is what this manifest is for
        named = not named_as_code(name) and _KEY_NAME.fullmatch(name)
        if named or _PRIVATE.search(file.content) or _is_key(file.content):
            yield Objection(file.key, f"'{file.path}' is, or holds, a private key")


def _roots(manifest: ManifestView) -> Iterator[Objection]:
    if manifest.enclave_set is EnclaveSet.SIMULATED:
        return
    for file in measured_files(manifest):
        if any(_organisation(each) == SIMULATORS_NAME for each in _certificates(file.content)):
            yield Objection(file.key, f"'{file.path}' is a certificate of the simulator's")
        elif file.path.endswith("/settings.toml") and _toml(file).get("anchor_root"):
            yield Objection(file.key, f"'{file.path}' names a root in the place of Intel's: anchor_root")


def _development(manifest: ManifestView) -> Iterator[Objection]:
    if manifest.enclave_set is EnclaveSet.SIMULATED:
        return
    for file in measured_files(manifest):
        table = _toml(file)
        if file.path.endswith("/settings.toml") and table.get("simulated_workers"):
            yield Objection(file.key, f"'{file.path}' takes simulated workers in: simulated_workers")
        if "policy_id" in table and not (table.get("reference_values") or table.get("td_reference_values")):
            yield Objection(file.key, f"'{file.path}' {_ANY_CODE}")


def _is_key(content: bytes) -> bool:
    """Whether it is a private key in DER that no password protects."""
    if not content.startswith(_DER):
        return False
    try:
        load_der_private_key(content, password=None)
    except (ValueError, UnsupportedAlgorithm):
        return False
    except TypeError:  # a password protects it
        return True
    return True


def _certificates(content: bytes) -> list[x509.Certificate]:
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)] if content.startswith(_DER) else []
    except ValueError:
        return []


def _organisation(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(names[0].value) if names else ""


def _toml(file: MeasuredFile) -> Mapping[str, Any]:
    """Settings, or a policy, also one in the envelope that people sign; whose signatures hold is not asked here."""
    content = file.content
    if not file.path.startswith("mesh/"):
        return {}
    try:
        if content.startswith(b"{"):
            content = b64decode(json.loads(content)["payload"])
        return tomllib.loads(content.decode())
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


RULES: Final = (
    Rule(
        "M50",
        "The simulator is, and is run, in the simulated set alone",
        "Its quotes are worth nothing, and what is not there cannot be called by mistake.",
        "Build the enclave anew, with --set hardened.",
        _simulator,
    ),
    Rule(
        "M51",
        "No tests, installers, debuggers or shells",
        "They are code that nobody reviewed for this place, and give whoever gets in the tools to go on.",
        "Leave the file out of the image; 'cloister enclave build' does.",
        _tools,
    ),
    Rule(
        "M52",
        "No private key is measured",
        "Measured files lie open on the host: a key among them is everybody's.",
        "Keep the key in an encrypted mount, or have the service make one inside; and replace this one.",
        _private_keys,
    ),
    Rule(
        "M53",
        "Evidence leads back to Intel's root alone",
        "Whoever has the key of another root makes evidence for any machine.",
        "Take anchor_root and the certificate out: Intel's root is the one that a verifier has by itself.",
        _roots,
    ),
    Rule(
        "M54",
        "No settings or policies of a development mesh",
        "They take in workers that are simulated, or code that nobody named.",
        "Take simulated_workers out; name the code in the policy's reference_values.",
        _development,
    ),
)
