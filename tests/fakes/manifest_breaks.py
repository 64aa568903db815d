"""For each rule about manifests, ways to break it and no other in one that is whole."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cloister.dsse import sign
from fakes.linted_enclave import LintedEnclave
from fakes.sim import simulated_platform

Break = Callable[[LintedEnclave], object]


def set_to(key: str, value: Any) -> Break:
    """Put a value under a key with dots; None takes it out."""

    def change(enclave: LintedEnclave) -> None:
        *tables, last = key.split(".")
        table = enclave.table
        for name in tables:
            table = table.setdefault(name, {})
        if value is None:
            del table[last]
        else:
            table[last] = value

    return change


def allowing(uri: str, name: str = "", content: bytes = b"") -> Break:
    def change(enclave: LintedEnclave) -> None:
        if name:
            enclave.place(name, content)
        enclave.allow(uri)

    return change


def with_reason(key: str) -> Break:
    return lambda enclave: enclave.reasons.update({key: "measured, and worth it"})


def trusting(name: str, content: bytes = b"x") -> Break:
    return lambda enclave: enclave.trust(name, content)


def mounting(**entry: str) -> Break:
    return lambda enclave: enclave.mount(**entry)


def mount_changed(path: str, **changes: str | None) -> Break:
    def change(enclave: LintedEnclave) -> None:
        (mount,) = [mount for mount in enclave.table["fs"]["mounts"] if mount["path"] == path]
        for name, value in changes.items():
            if value is None:
                del mount[name]
            else:
                mount[name] = value

    return change


def without_mount(path: str) -> Break:
    def change(enclave: LintedEnclave) -> None:
        mounts = enclave.table["fs"]["mounts"]
        enclave.table["fs"]["mounts"] = [mount for mount in mounts if mount["path"] != path]

    return change


def trusted_as(change_entry: Callable[[dict[str, str]], Any]) -> Break:
    def change(enclave: LintedEnclave) -> None:
        files = enclave.table["sgx"]["trusted_files"]
        files[0] = change_entry(files[0])

    return change


def in_zip(*members: str) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for member in members:
            archive.writestr(member, "x")
    return raw.getvalue()


def private_key(encoding: Encoding) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption())


def also(*changes: Break) -> Break:
    return lambda enclave: [change(enclave) for change in changes]


ARGV = ["/cloister/root/bin/python3.11"]
STARTED = [*ARGV, "-I", "-S", "-B", "-m", "cloister.verifier", "--settings", "/cloister/mesh/settings.toml"]
OTHER = {"uri": "file:mesh/./settings.toml", "sha256": "ab" * 32}
UNPINNED = b'policy_id = "desk"\nversion = 1\n'

BREAKS: dict[str, list[tuple[str, Break]]] = {
    "M01": [
        ("a key that is mistyped", set_to("sys.disallow_subproceses", True)),
        ("a section of somebody's own", set_to("cloister.reasons", {"a": "b"})),
        ("a string in the place of a switch", set_to("libos.check_invalid_pointers", "true")),
        ("a trusted file without a name", lambda enclave: enclave.table["sgx"]["trusted_files"].append({"sha256": ""})),
        ("a mount without a path", mounting(uri="file:mesh")),
        ("a mount at a relative path", mounting(uri="file:mesh", path="etc")),
        ("a variable that is switched off", set_to("loader.env.HOME", {"passthrough": False, "value": "/"})),
    ],
    "M02": [
        ("no label", set_to("loader.env.CLOISTER_ENCLAVE", None)),
        ("a set that there is not", set_to("loader.env.CLOISTER_ENCLAVE", "verifier production")),
        ("the label of another kind", set_to("loader.env.CLOISTER_ENCLAVE", "worker hardened")),
    ],
    "M03": [
        ("the product of another kind", set_to("sgx.isvprodid", 1)),
        ("no product", set_to("sgx.isvprodid", None)),
    ],
    "M04": [("debug in the hardened set", set_to("sgx.debug", True))],
    "M05": [
        ("no attestation", set_to("sgx.remote_attestation", None)),
        ("attestation off", set_to("sgx.remote_attestation", "none")),
    ],
    "M06": [("a sealing key that debug enclaves have too", set_to("sgx.seal_key.flags_mask", "0xfffffffffffffffd"))],
    "M10": [("the host's environment", set_to("loader.insecure__use_host_env", True))],
    "M11": [
        ("a variable that is not the host's", set_to("loader.env.CLOISTER_VERIFIER_POLICY", {"passthrough": True}))
    ],
    "M12": [
        (name, set_to(f"loader.env.{name}", {"passthrough": True}))
        for name in ("LC_ALL", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "MALLOC_ARENA_MAX")
    ],
    "M13": [("the host's arguments", set_to("loader.insecure__use_cmdline_argv", True))],
    "M14": [
        ("arguments that nobody measured", set_to("loader.argv_src_file", "file:host/argv")),
        ("variables that nobody measured", set_to("loader.env_src_file", "file:host/env")),
    ],
    "M15": [
        ("no program", set_to("loader.argv", ["/cloister/root/bin/python3.11", "-I"])),
        ("no arguments", set_to("loader.argv", None)),
        ("a program from standard input", set_to("loader.argv", [*ARGV, "-ISB", "-"])),
        ("standard input after the program", set_to("loader.argv", [*ARGV, "-Ii", "-m", "x"])),
        ("Python that is not isolated", set_to("loader.argv", [*ARGV, "-W", "-I", "-Xdev", "-SB", "-mx", "-I"])),
    ],
    "M16": [
        ("a variable that the service refuses", set_to("loader.env.OPENVINO_LOG_LEVEL", "3")),
        ("TLS 1.2", set_to("loader.env.GRPC_SSL_CIPHER_SUITES", "HIGH")),
        ("gRPC's log", set_to("loader.env.GRPC_VERBOSITY", None)),
    ],
    "M17": [
        ("another module", set_to("loader.argv", [*ARGV, "-I", "-S", "-B", "-m", "runpy"])),
        (
            "settings of the host's",
            set_to("loader.argv", [*STARTED[:-1], "/cloister/host/models_dir/settings.toml"]),
        ),
        ("one argument more", set_to("loader.argv", [*STARTED, "--settings"])),
        ("another interpreter", set_to("libos.entrypoint", "/cloister/root/bin/python3")),
        ("another program", set_to("libos.entrypoint", "/cloister/root/bin/redis-server")),
    ],
    "M20": [
        ("a library by its name", allowing("file:host/plugin.so")),
        ("a library with a version", allowing("file:host/libx.so.3")),
        ("a module", allowing("file:host/x.py")),
        ("an ELF file", allowing("file:host/data", "host/data", b"\x7fELF and so on")),
        ("a zip file", allowing("file:host/data", "host/data", b"PK\x03\x04")),
        ("a script", allowing("file:host/data", "host/data", b"#!/bin/sh")),
        ("compiled Python", allowing("file:host/data", "host/data", b"U\x0d\r\n")),
        ("compiled Python in an allowed folder", allowing("file:host/more/", "host/more/a/b", b"\xa7\x0d\r\n")),
        ("a module in an allowed folder", allowing("file:host/more/", "host/more/a/x.py", b"")),
    ],
    "M21": [
        ("beside the interpreter", allowing("file:root/lib/python3.11/notes")),
        ("in a library path", allowing("file:gramine/notes")),
        *(
            (name, also(change, mounting(path="/more", uri="file:host/more"), allowing("file:host/more")))
            for name, change in (
                ("mounted in a library path", set_to("loader.env.LD_LIBRARY_PATH", "/lib:/more")),
                ("by a semicolon", set_to("loader.env.LD_LIBRARY_PATH", "/lib;/more")),
                ("by a relative path", set_to("loader.env.LD_LIBRARY_PATH", "more:/lib")),
                (
                    "by the folder that it starts in",
                    also(set_to("loader.env.LD_LIBRARY_PATH", ":/lib"), set_to("fs.start_dir", "/more")),
                ),
            )
        ),
        (
            "by a file that the C library looks for",
            also(mounting(path="/etc", uri="file:host/etc"), allowing("file:host/etc")),
        ),
    ],
    "M22": [
        (
            "a trusted file",
            lambda enclave: (enclave.trust("host/both", b"x"), enclave.allow("file:host/both")),
        ),
        ("a folder above one", trusting("host/models_dir/of_all")),
    ],
    "M23": [
        ("a folder by its slash", allowing("file:scratch/")),
        ("a folder that is there", allowing("file:scratch", "scratch/x")),
    ],
    "M24": [
        ("a folder by its slash", trusted_as(lambda _: {"uri": "file:root/"})),
        ("a folder that is there", trusted_as(lambda entry: {**entry, "uri": "file:root"})),
    ],
    "M25": [
        ("a string", trusted_as(lambda entry: entry["uri"])),
        ("a digest that is none", trusted_as(lambda entry: {**entry, "sha256": "00"})),
        ("two digests", lambda enclave: enclave.table["sgx"]["trusted_files"].append(OTHER)),
    ],
    "M26": [
        ("no library OS", set_to("loader.entrypoint", None)),
        ("one without a digest", set_to("loader.entrypoint.sha256", None)),
    ],
    "M27": [("files that nobody named", set_to("sgx.file_check_policy", "allow_all_but_log"))],
    "M28": [
        ("an absolute path", trusted_as(lambda entry: {**entry, "uri": "file:/usr/lib/x86_64-linux-gnu/libc.so.6"})),
        ("a path that leads out", trusted_as(lambda entry: {**entry, "uri": "file:root/../../x"})),
        ("no URI", trusted_as(lambda entry: {**entry, "uri": "root/bin/x"})),
        ("an absolute mount", mounting(path="/etc/hosts", uri="file:/etc/hosts")),
        ("the installed library OS", set_to("loader.entrypoint.uri", "file:/usr/lib/gramine/libsysdb.so")),
    ],
    "M30": [
        ("no root", set_to("fs.root", None)),
        ("a root of the host's", set_to("fs.root", {"type": "chroot", "uri": "file:."})),
        ("a root of the host's by default", set_to("fs.root", {"uri": "file:rootfs"})),
    ],
    "M31": [
        ("simulated attestation", mounting(path="/dev/attestation", uri="file:host/attestation")),
        ("one file of it", mounting(path="/dev/attestation/quote", uri="file:host/quote")),
        ("the same, spelt otherwise", mounting(path="//dev/./x/../attestation", uri="file:host/attestation")),
        ("random numbers of the host's", mounting(path="/dev/urandom", uri="file:host/zeros")),
        ("in memory", lambda enclave: enclave.table["fs"]["mounts"].insert(0, {"type": "tmpfs", "path": "/dev"})),
        ("/proc", mounting(path="/proc/self", uri="file:host/self")),
        ("/sys", mounting(path="/sys", uri="file:host/sys")),
    ],
    "M32": [
        ("memory of the host's", mounting(type="untrusted_shm", path="/shm", uri="dev:/dev/shm")),
        ("a device", allowing("dev:tty")),
        ("calls to devices", set_to("sys.allowed_ioctls", [{"request_code": 1}])),
    ],
    "M33": [
        ("no /tmp", without_mount("/tmp")),
        ("no /dev/shm", without_mount("/dev/shm")),
        ("the host's in the midst of it", mounting(path="/tmp/cache", uri="file:host/cache")),
        ("a home of the host's", set_to("loader.env.HOME", "/cloister/host/models_dir")),
        ("temporary files of the host's", set_to("loader.env.TMPDIR", "/cloister/host/models_dir/x")),
        ("a /tmp of the host's", mount_changed("/tmp", type="chroot", uri="file:host/tmp")),
    ],
    "M34": [
        ("no key", mount_changed("/cloister/state", key_name=None)),
        ("a key that there is not", mount_changed("/cloister/state", key_name="_sgx_platform")),
        ("state that is not encrypted", mount_changed("/cloister/state", type=None, key_name=None)),
        ("no state", without_mount("/cloister/state")),
        ("a key that somebody must bring", mount_changed("/cloister/state", key_name="ours")),
        ("the key of the state, and nowhere to have it from", without_mount("/cloister/sealed")),
        ("the key of the state under itself", mount_changed("/cloister/sealed", key_name="state")),
        ("the key of the state where the host is", mount_changed("/cloister/sealed", type="chroot")),
    ],
    "M35": [
        ("the same folder", mounting(type="encrypted", path="/s", uri="file:host/state", key_name="_sgx_mrenclave")),
        ("one inside", mounting(type="encrypted", path="/s", uri="file:host/state/a", key_name="_sgx_mrenclave")),
        ("allowed as well", allowing("file:host/state")),
    ],
    "M36": [
        ("the same path", mounting(path="/cloister/mesh", uri="file:mesh")),
        ("a path above", mounting(path="/cloister", uri="file:mesh")),
        (
            "settings of the host's",
            mounting(path="/cloister/mesh/settings.toml", uri="file:host/verifier_keys"),
        ),
        (
            "a secret of the host's",
            mounting(path="/cloister/sealed/vault.file.key_file", uri="file:host/verifier_keys"),
        ),
    ],
    "M40": [
        ("locks that are experimental", set_to("sys.experimental__enable_flock", True)),
        ("calls that do nothing", set_to("sys.debug__mock_syscalls", [{"name": "fsync"}])),
        ("a key in the manifest", set_to("fs.insecure__keys", {"other": "00" * 16})),
    ],
    "M41": [("no ASLR", set_to("loader.insecure__disable_aslr", True))],
    "M42": [("event descriptors of the host's", set_to("sys.insecure__allow_eventfd", True))],
    "M43": [("exitless calls", set_to("sgx.insecure__rpc_thread_num", 8))],
    "M44": [
        ("EXINFO", set_to("sgx.use_exinfo", True)),
        ("faults without it", set_to("sgx.insecure__allow_memfaults_without_exinfo", True)),
    ],
    "M45": [
        ("counts", set_to("sgx.enable_stats", True)),
        ("a profile", set_to("sgx.profile.enable", "main")),
        ("VTune", set_to("sgx.vtune_profile", True)),
    ],
    "M46": [(level, set_to("loader.log_level", level)) for level in ("warning", "debug", "trace", "all")],
    "M47": [
        ("processes", set_to("sys.disallow_subprocesses", False)),
        ("processes, by default", set_to("sys.disallow_subprocesses", None)),
    ],
    "M48": [("no SIGTERM", set_to("sys.enable_sigterm_injection", None))],
    "M49": [("a reason that is left over", with_reason("sgx.vtune_profile"))],
    "M50": [
        ("the simulator", trusting("root/lib/python3.11/cloister_simulator/quoter.pyc")),
        ("its distribution", trusting("root/lib/python3.11/cloister_simulator-0.1.0.dist-info/METADATA")),
        ("in a zip file", trusting("root/lib/python311.zip", in_zip("cloister_simulator/quoter.pyc"))),
    ],
    "M51": [
        ("a test", trusting("root/lib/python3.11/numpy/core/tests/x.pyc")),
        ("a test in a zip file", trusting("root/lib/python311.zip", in_zip("test/support/x.pyc"))),
        ("pip", trusting("root/lib/python3.11/pip-24.0.dist-info/METADATA")),
        ("a debugger", trusting("root/lib/python3.11/pdb.pyc")),
        ("ensurepip", trusting("root/lib/python3.11/ensurepip/__init__.pyc")),
        ("an editor", trusting("root/lib/python3.11/idlelib/run.pyc")),
        ("a shell", trusting("root/bin/sh")),
    ],
    "M52": [
        ("PEM", trusting("mesh/tls.trust_roots", private_key(Encoding.PEM))),
        ("DER", trusting("mesh/tls.trust_roots", private_key(Encoding.DER))),
        ("by its name", trusting("mesh/vault.file.key_file", bytes(32))),
        ("in a zip file", trusting("root/lib/python311.zip", in_zip("x/server.key"))),
    ],
    "M53": [
        ("the simulator's root", trusting("mesh/anchor_root", simulated_platform().root_der())),
        ("a root in the settings", trusting("mesh/settings.toml", b'anchor_root = "anchor_root"\n')),
    ],
    "M54": [
        ("simulated workers", trusting("mesh/settings.toml", b"simulated_workers = true\n")),
        ("a policy for any code", trusting("mesh/policy", UNPINNED)),
        ("the same, signed", trusting("mesh/policy", sign(UNPINNED, "application/toml", []))),
    ],
}
