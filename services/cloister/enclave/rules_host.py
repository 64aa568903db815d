"""What the host gets to say: environment, arguments, standard input (attack I02)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cloister.enclave.kinds import IMPORTING, INSIDE, ROOT, EnclaveSet, Kind, Place
from cloister.enclave.manifest_view import ManifestView, path_of
from cloister.enclave.rule import Objection, Rule
from cloister.kit.environment import FIXED, SETTINGS_FILE, TLS_ENVIRONMENT

NEVER: Final = re.compile(
    r"(LD|PYTHON|OPENVINO|OV|GRPC|GLIBC|MALLOC|OMP|KMP|TBB|SSL|OPENSSL|LC|UV)_.*|PYTHON.*|LANG|LANGUAGE|LOCPATH|NLSPATH"
    r"|HOME|PATH|TMP|TEMP|TMPDIR|TZ|TZDIR|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES|CLOISTER_ENCLAVE|(.*_)?(PROXY|proxy)"
)
"""Variables that steer a loader, an interpreter or a library, and so are never the host's."""
_TAKE_A_VALUE: Final = frozenset("WX")
_END_OPTIONS: Final = frozenset("mc")


def _host_env(manifest: ManifestView) -> Iterator[Objection]:
    if manifest.value("loader.insecure__use_host_env"):
        yield Objection("loader.insecure__use_host_env", "gives the program the whole environment of the host")


def _passed_through(manifest: ManifestView) -> Iterator[Objection]:
    """What a manifest has no value for comes from the host, or is no environment at all."""
    chosen = manifest.kind.host_chosen if manifest.kind is not None else ()
    for name, value in manifest.environment.items():
        if value is None and name not in chosen and not NEVER.fullmatch(name):
            yield Objection(f"loader.env.{name}", "is passed through, and is not the host's to choose")


def _steering(manifest: ManifestView) -> Iterator[Objection]:
    for name, value in manifest.environment.items():
        if value is None and NEVER.fullmatch(name):
            yield Objection(f"loader.env.{name}", "is passed through, and steers how code is loaded or what it does")


def _host_argv(manifest: ManifestView) -> Iterator[Objection]:
    if manifest.value("loader.insecure__use_cmdline_argv"):
        yield Objection("loader.insecure__use_cmdline_argv", "gives the program the arguments of the host")


def _sources(manifest: ManifestView) -> Iterator[Objection]:
    measured = {path_of(file.uri) for file in manifest.trusted}
    for key in ("loader.argv_src_file", "loader.env_src_file"):
        uri = manifest.value(key)
        if uri is not None and (not isinstance(uri, str) or path_of(uri) not in measured):
            yield Objection(key, "is no trusted file")


def _python(manifest: ManifestView) -> Iterator[Objection]:
    entrypoint = manifest.value("libos.entrypoint")
    argv = manifest.value("loader.argv")
    if not isinstance(entrypoint, str) or not entrypoint.rpartition("/")[2].startswith("python"):
        return
    if manifest.value("loader.insecure__use_cmdline_argv") or manifest.value("loader.argv_src_file"):
        return  # what they are is not to be seen here; M13 and M14 say whose they are
    words = [str(word) for word in argv[1:]] if isinstance(argv, list) else []
    flags, program = _options(words)
    if not program or program == "-" or "i" in flags:
        yield Objection("loader.argv", "has Python run what it reads from standard input, which is the host's")
    elif "I" not in flags:
        yield Objection("loader.argv", "starts Python without -I")


def _program(manifest: ManifestView) -> Iterator[Objection]:
    """Where the rules above have found whose the arguments are, and nothing wrong with them."""
    kind, argv = manifest.kind, manifest.value("loader.argv")
    if kind is None or not isinstance(argv, list) or any((*_python(manifest), *_host_argv(manifest))):
        return
    if argv not in _starts(kind, manifest.enclave_set, importing=manifest.importing):
        yield Objection("loader.argv", f"is not how a {kind.name} is started")
    elif manifest.value("libos.entrypoint") != argv[0]:
        yield Objection("libos.entrypoint", f"is not {argv[0]}")


def _starts(kind: Kind, enclave_set: EnclaveSet | None, *, importing: bool) -> list[list[str]]:
    """The arguments that an enclave of ours may have."""
    if not kind.module:
        return [[f"{INSIDE}/{ROOT}/bin/redis-server", f"{INSIDE}/mesh/redis.conf"]]
    python = [f"{INSIDE}/{ROOT}/bin/python3.11", "-I", "-S", "-B", "-m"]
    if importing:
        return [[*python, IMPORTING, f"{INSIDE}/import", f"{INSIDE}/{Place.SEALED}"]]
    modules = {kind.module, kind.module_in(enclave_set) if enclave_set is not None else kind.module}
    return [[*python, module, "--settings", str(SETTINGS_FILE)] for module in sorted(modules)]


def _options(words: Sequence[str]) -> tuple[str, str]:
    """Python's single-letter options, and the program that it is given: a file, or what follows -m or -c."""
    flags, waiting = "", list(words)
    while waiting:
        word = waiting.pop(0)
        if word == "-" or not word.startswith("-"):
            return flags, word
        letters = "" if word.startswith("--") else word[1:]
        for at, letter in enumerate(letters):
            rest = letters[at + 1 :]
            if letter in _END_OPTIONS:
                return flags, rest or (waiting[0] if waiting else "")
            if letter in _TAKE_A_VALUE:
                waiting = waiting if rest else waiting[1:]
                break
            flags += letter
    return flags, ""


def _service(manifest: ManifestView) -> Iterator[Objection]:
    kind = manifest.kind
    if kind is None or not kind.module:
        return
    found: Mapping[str, Any] = manifest.environment
    for name in sorted(name for name, value in found.items() if value is not None and name not in FIXED):
        yield Objection(f"loader.env.{name}", "is a variable that the service inside refuses to start with")
    for name, wanted in TLS_ENVIRONMENT.items():
        if found.get(name) != wanted:
            yield Objection(f"loader.env.{name}", f'is not "{wanted}"')


RULES: Final = (
    Rule(
        "M10",
        "The host's environment stays outside",
        "One variable, LD_PRELOAD or PYTHONPATH say, has the enclave run the host's code.",
        "Take it out, and write each variable into loader.env.",
        _host_env,
    ),
    Rule(
        "M11",
        "Variables are passed through only where the kind says that the host may choose them",
        "Whatever reads the variable believes the host.",
        'Give it a value: loader.env.NAME = "value".',
        _passed_through,
    ),
    Rule(
        "M12",
        "Variables that steer a loader, an interpreter, a library or a locale are never passed through",
        "What the dynamic linker, Python, OpenVINO, gRPC, proxies and locales go by loads code, switches checks off, "
        "or leads connections elsewhere.",
        'Give it a value, or take it out: loader.env.NAME = "value".',
        _steering,
    ),
    Rule(
        "M13",
        "The host's arguments stay outside",
        "Arguments choose what a program runs: of Python, any code at all.",
        "Write the arguments into loader.argv.",
        _host_argv,
    ),
    Rule(
        "M14",
        "Files of arguments and variables are trusted files",
        "The host writes what nobody measures.",
        "Add the file to sgx.trusted_files with its sha256, or write its contents into loader.argv and loader.env.",
        _sources,
    ),
    Rule(
        "M15",
        "Python is isolated, and runs a program that the manifest names",
        "Without -I, variables, the user's folder and the folder of the program add code; without a program, "
        "Python runs what the host writes to standard input.",
        'Begin loader.argv with the interpreter, "-I" and "-m", and the module.',
        _python,
    ),
    Rule(
        "M16",
        "The variables of a service are those it takes, and have gRPC refuse TLS 1.2",
        "A service inside an enclave refuses to start with a variable that it does not know.",
        "Write those of cloister.kit.environment into loader.env, and no others.",
        _service,
    ),
    Rule(
        "M17",
        "An enclave of ours runs the program of its kind, with the settings that are measured",
        "People, policies and sealing keys go by kind and product: under that name another program, or settings of "
        "the host's, would have all that the service has.",
        "Write loader.argv as 'cloister enclave build' does, and its first word into libos.entrypoint.",
        _program,
    ),
)
