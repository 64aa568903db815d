"""The manifest of an enclave, rendered from the measured templates: the same folder gives the same bytes.

Gramine is not needed for it, so that every manifest can be linted anywhere. Each file of the folder stands in it with
its digest; none is taken by its folder. What no manifest of a set may hold is refused here, whatever a template says.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import jinja2

from cloister.enclave.configuration import IMPORT, MESH, Configuration
from cloister.enclave.kinds import IMPORTING, INSIDE, ROOT, EnclaveSet, Kind, Place
from cloister.enclave.manifest_view import REASONS
from cloister.enclave.measured_files import MeasuredFile, measured_files
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.enclave_state import KEY_NAME
from cloister.kit.environment import TLS_ENVIRONMENT

MEASURED: Final = (ROOT, "gramine", MESH)
"""The folders that a manifest measures."""
_ENTRYPOINT: Final = "gramine/libsysdb.so"
REASON: Final = "manifest.refused"
_TEMPLATES: Final = Path(__file__).parent / "measured"
_KNOWN_KEY: Final = "simulated"
_KNOWN_KEY_REASON: Final = "gramine-direct has no sealing key, and what is simulated protects nothing"
_SEALING_KEY: Final = "_sgx_mrsigner"
_SIZE: Final = re.compile(r"([0-9]{1,15})[KMG]?")
_PSEUDO: Final = ("/dev", "/proc", "/sys")
_SIMULATOR: Final = "cloister_simulator"
_DEBUG_REASON: Final = {
    EnclaveSet.HARDENED: "Closed to every debugger of the host.",
    EnclaveSet.DEBUG: "OPEN to the host's debugger: whatever is in this enclave, the host can read.",
    EnclaveSet.SIMULATED: "Closed, as the hardened set is; what runs it is gramine-direct, where nothing is closed.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """How large an enclave is; what is None is as the kind's template says, with the reason beside it.

    Attributes:
        memory: `4G`, say: all memory that it ever has; a power of two.
        threads: Most at once.
        stack: Of each thread, `2M`, say.
        heap: How far the heap grows in place.
        descriptors: Most open files and connections.
        edmm: Whether memory is added as it is needed, which takes a newer CPU and Linux 6.0.
    """

    memory: str | None = None
    threads: int | None = None
    stack: str | None = None
    heap: str | None = None
    descriptors: int | None = None
    edmm: bool | None = None


def render(
    kind: Kind,
    enclave_set: EnclaveSet,
    into: Path,
    configuration: Configuration,
    *,
    sizing: Sizing = Sizing(),
    isvsvn: int = 1,
    eventfd_reason: str = "",
    importing: bool = False,
) -> Path:
    """Write the manifest of the enclave whose files lie in a folder.

    Args:
        kind: What it is.
        enclave_set: For whom.
        into: Its folder, with root/, gramine/ and mesh/ as they will be measured.
        configuration: What was put there.
        sizing: What differs from the template's sizes.
        isvsvn: Its security version.
        eventfd_reason: Why the host may wake its threads, one line, where it is measured what that brings.
        importing: The enclave that brings the secrets in, in place of the service.

    Returns:
        `<kind>.manifest`, or `<kind>-import.manifest`.

    Raises:
        InvalidRequest: The set may not have what was asked for, or the folder holds what cannot be measured
            (`manifest.refused`).
        NotReady: Part of the folder is missing (`enclave.incomplete`).
    """
    if importing and not configuration.secrets:
        raise InvalidRequest(f"a {kind.name} has no secrets to bring into its enclave", reason=REASON)
    if configuration.simulated and enclave_set is not EnclaveSet.SIMULATED:
        raise InvalidRequest(
            f"{configuration.simulated} has simulated evidence believed: leave it out of a {enclave_set} {kind.name}",
            reason=REASON,
        )
    files = list(measured_files(into, (*MEASURED, *((IMPORT,) if importing else ())), linked=IMPORT))
    template = _environment().get_template(f"{kind.name}.manifest.template")
    text = template.render(
        **_of_set(kind, enclave_set),
        **_of_purpose(kind, enclave_set, configuration, importing=importing),
        isvsvn=isvsvn,
        eventfd_reason=" ".join(eventfd_reason.split()),
        sizing={name: value for name, value in asdict(sizing).items() if value is not None},
        entrypoint_sha256=_entrypoint(files).sha256,
        trusted_files=files,
    )
    check_set(tomllib.loads(text), kind, enclave_set)
    _check_memory(tomllib.loads(text)["sgx"]["enclave_size"])
    manifest = into / (f"{kind.importer}.manifest" if importing else f"{kind.name}.manifest")
    manifest.write_text(text, encoding="utf-8")
    _write_reasons(manifest.with_suffix(REASONS), kind, enclave_set, eventfd_reason)
    return manifest


def check_set(manifest: dict[str, Any], kind: Kind, enclave_set: EnclaveSet) -> None:
    """Refuse a manifest that could be taken for one of another set, or that opens what its set keeps closed.

    Raises:
        InvalidRequest: `manifest.refused`.
    """
    sgx, label = manifest["sgx"], manifest["loader"]["env"]["CLOISTER_ENCLAVE"]
    if label != f"{kind.name} {enclave_set}" or sgx["isvprodid"] != kind.product_in(enclave_set):
        raise InvalidRequest("the manifest is labelled as another kind or set", reason=REASON)
    if sgx["debug"] is not (enclave_set is EnclaveSet.DEBUG):
        raise InvalidRequest(f"sgx.debug is not for the {enclave_set} set", reason=REASON)
    insecure = [name for name in _keys(manifest) if "insecure" in name]
    if insecure and enclave_set is EnclaveSet.HARDENED:
        raise InvalidRequest(f"{insecure[0]} is not for the hardened set", reason=REASON)
    mounts = [mount["path"] for mount in manifest["fs"]["mounts"]]
    over = [path for path in mounts if path.startswith(_PSEUDO) and path != "/dev/shm"]  # noqa: S108 - the enclave's
    if over and enclave_set is not EnclaveSet.SIMULATED:
        raise InvalidRequest(f"a mount over {over[0]} is for the simulated set alone", reason=REASON)
    if enclave_set is not EnclaveSet.SIMULATED and any(_SIMULATOR in word for word in manifest["loader"]["argv"]):
        raise InvalidRequest("the simulator is run in the simulated set alone", reason=REASON)


def _check_memory(size: str) -> None:
    """Refuse what the CPU would, long after the enclave was signed: its address range is a power of two (SECS.SIZE)."""
    found = _SIZE.fullmatch(size)
    if found is None or int(found[1]).bit_count() != 1:
        raise InvalidRequest(
            f"the enclave's memory is {size!r}, and must be a power of two such as 512M, 1G or 4G", reason=REASON
        )


def _write_reasons(file: Path, kind: Kind, enclave_set: EnclaveSet, eventfd_reason: str) -> None:
    """Say why options are set that weaken the enclave, where the linter looks for it: signing drops comments."""
    known_key = (kind.sealed or kind.state) and enclave_set is EnclaveSet.SIMULATED
    reasons = {
        "sys.insecure__allow_eventfd": eventfd_reason,
        "fs.insecure__keys": _KNOWN_KEY_REASON if known_key else "",
    }
    lines = [f"{json.dumps(key)} = {json.dumps(why)}\n" for key, why in reasons.items() if why]
    file.unlink(missing_ok=True)
    if lines:
        file.write_text("".join(lines), encoding="utf-8")


def _of_set(kind: Kind, enclave_set: EnclaveSet) -> dict[str, Any]:
    """What a manifest says because of its kind and set."""
    return {
        "kind": kind,
        "enclave_set": str(enclave_set),
        "label": f"{kind.name} {enclave_set}",
        "tls_environment": sorted(TLS_ENVIRONMENT.items()),
        "sealing_key": _KNOWN_KEY if enclave_set is EnclaveSet.SIMULATED else _SEALING_KEY,
        "state_key": _state_key(kind, enclave_set),
        "debug": enclave_set is EnclaveSet.DEBUG,
        "debug_reason": _DEBUG_REASON[enclave_set],
        "product": kind.product_in(enclave_set),
    }


def _state_key(kind: Kind, enclave_set: EnclaveSet) -> str:
    """The key of what a service keeps: one that it sets itself, where it can."""
    simulated = enclave_set is EnclaveSet.SIMULATED
    if kind.module and not (simulated and kind.quotes):  # Gramine's keys are hidden under the simulator's quotes
        return KEY_NAME
    return _KNOWN_KEY if simulated else _SEALING_KEY


def _of_purpose(
    kind: Kind, enclave_set: EnclaveSet, configuration: Configuration, *, importing: bool
) -> dict[str, Any]:
    """What a manifest says of the service, or of what brings its secrets in: that one sees nothing of the host's."""
    if importing:
        return {
            "importing": True,
            "argv": (*_python(IMPORTING), f"{INSIDE}/{IMPORT}", f"{INSIDE}/{Place.SEALED}"),
            "passthrough": (),
            "host": (),
        }
    return {
        "importing": False,
        "argv": _argv(kind.module_in(enclave_set), configuration),
        "passthrough": kind.host_chosen,
        "host": sorted(configuration.host),
    }


def _entrypoint(files: list[MeasuredFile]) -> MeasuredFile:
    for file in files:
        if file.path == _ENTRYPOINT:
            return file
    raise NotReady(f"{_ENTRYPOINT} is missing: Gramine's runtime comes first", reason="enclave.incomplete")


def _argv(module: str, configuration: Configuration) -> tuple[str, ...]:
    if not module:
        return (f"{INSIDE}/{ROOT}/bin/redis-server", configuration.settings)
    return (*_python(module), "--settings", configuration.settings)


def _python(module: str) -> tuple[str, ...]:
    # -I: no environment, no current folder; -S: no site packages beside the prefix; -B: nothing is written.
    return (f"{INSIDE}/{ROOT}/bin/python3.11", "-I", "-S", "-B", "-m", module)


def _keys(table: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, value in table.items():
        yield f"{at}{name}"
        if isinstance(value, dict):
            yield from _keys(value, f"{at}{name}.")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(  # noqa: S701 - TOML, where `toml` below escapes
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # JSON's strings, numbers and booleans are also TOML's.
    environment.filters["toml"] = partial(json.dumps, ensure_ascii=False)
    return environment
