"""A manifest of Gramine's as the rules look at it: nothing is believed of it, and what is no manifest has no values.

Two kinds of path occur. Where the host keeps a file is a URI (`file:root/bin/x`), relative to the manifest's folder;
where the program inside sees it is a path, made of the mounts, of which a later one lies over an earlier one.
"""

from __future__ import annotations

import posixpath
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from cloister.enclave.kinds import IMPORTER, KINDS, EnclaveSet, Kind
from cloister.errors import InvalidRequest
from cloister.kit.environment import LABEL

REASON: Final = "manifest.invalid"
FORMS: Final = (".manifest.sgx", ".manifest")
TEMPLATE: Final = ".manifest.template"
REASONS: Final = ".reasons.toml"
_FILE: Final = "file:"
_MAX_BYTES: Final = 64 << 20


class TrustedFile(NamedTuple):
    """An entry of `sgx.trusted_files`; `key` is its place, `sgx.trusted_files[3]` say."""

    key: str
    uri: str
    sha256: str


class Mount(NamedTuple):
    """An entry of `fs.mounts`, or `fs.root`. `path` is normalised; empty where it is none."""

    key: str
    path: str
    type: str
    uri: str
    key_name: str


@dataclass(frozen=True, slots=True, eq=False)
class ManifestView:
    """A manifest, and what it is of.

    Attributes:
        name: Of the file, without what says its form.
        folder: What relative URIs count from.
        table: As TOML has it.
        reasons: Why an option is set that weakens the enclave, by its key.
    """

    name: str
    folder: Path
    table: Mapping[str, Any]
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def importing(self) -> bool:
        """Whether it is of ours that bring secrets in, and serve nobody."""
        return self.name.endswith(IMPORTER)

    @property
    def kind(self) -> Kind | None:
        """One of ours, by the file's name or by its label; None for a stranger's."""
        return KINDS.get(self.name.removesuffix(IMPORTER)) or KINDS.get(self._label[0])

    @property
    def enclave_set(self) -> EnclaveSet | None:
        """What its label says; None where it has none, or one that is none of ours."""
        kind, enclave_set = self._label
        ours = self.kind is not None and self.kind.name == kind and enclave_set in set(EnclaveSet)
        return EnclaveSet(enclave_set) if ours else None

    @property
    def ours(self) -> bool:
        """Whether it says of itself that it is one of Cloister's enclaves, by name or by label."""
        return self.kind is not None or LABEL in self.environment

    @property
    def _label(self) -> tuple[str, str]:
        """`worker hardened`, say, as a kind and a set."""
        kind, _, enclave_set = (self.environment.get(LABEL) or "").partition(" ")
        return kind, enclave_set

    def excused(self, key: str) -> bool:
        """Whether somebody has written why `key` is set; nothing is an excuse in the hardened set."""
        return self.enclave_set is not EnclaveSet.HARDENED and key in self.reasons

    def value(self, key: str) -> Any:
        """What stands under a key with dots; None where nothing does."""
        found: Any = self.table
        for name in key.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return found

    @property
    def environment(self) -> Mapping[str, str | None]:
        """`loader.env`: what each variable is; None of one that the host chooses."""
        env = self.value("loader.env")
        return {name: _fixed(value) for name, value in env.items()} if isinstance(env, dict) else {}

    @property
    def trusted(self) -> Iterator[TrustedFile]:
        """Files whose contents are measured."""
        for number, entry in enumerate(self._rows("sgx.trusted_files")):
            of = entry if isinstance(entry, dict) else {"uri": entry}
            uri, sha256 = of.get("uri"), of.get("sha256")
            if isinstance(uri, str):
                yield TrustedFile(f"sgx.trusted_files[{number}]", uri, sha256 if isinstance(sha256, str) else "")

    @property
    def allowed(self) -> Iterator[tuple[str, str]]:
        """Key and URI of what the host may change."""
        for number, uri in enumerate(self._rows("sgx.allowed_files")):
            if isinstance(uri, str):
                yield f"sgx.allowed_files[{number}]", uri

    @property
    def mounts(self) -> Iterator[Mount]:
        """All mounts in order, the root first if there is one."""
        root = self.value("fs.root")
        if isinstance(root, dict):
            yield _mount("fs.root", {**root, "path": "/"})
        for number, entry in enumerate(self._rows("fs.mounts")):
            if isinstance(entry, dict):
                yield _mount(f"fs.mounts[{number}]", entry)

    def host_path(self, inside: str) -> str:
        """Where the host keeps what the program sees at a path; empty where that is no file of the host's."""
        found, longest = "", -1
        for mount in self.mounts:
            if within(inside, mount.path) and len(mount.path) >= longest:
                longest = len(mount.path)
                found = joined(path_of(mount.uri), inside, mount.path) if mount.type != "tmpfs" else ""
        return found

    def _rows(self, key: str) -> list[Any]:
        found = self.value(key)
        return found if isinstance(found, list) else []


def read_manifest(file: Path) -> ManifestView:
    """A manifest in a file, with the reasons that lie beside it.

    Raises:
        InvalidRequest: It is a template, no TOML, or a file that cannot be read.
    """
    if file.name.endswith(TEMPLATE):
        raise InvalidRequest(f"{file} is a template: lint the manifest that is rendered from it", reason=REASON)
    if not file.exists():
        raise InvalidRequest(f"{file} is not there: name a manifest, or the folder that holds one", reason=REASON)
    form = next((form for form in FORMS if file.name.endswith(form)), "")
    if not form:
        raise InvalidRequest(f"{file} is no manifest: its name ends in neither of {', '.join(FORMS)}", reason=REASON)
    name = file.name.removesuffix(form)
    return ManifestView(name, file.parent, _toml(file), _reasons(file.with_name(name + REASONS)))


def manifests_in(place: Path) -> list[Path]:
    """The manifest that a path names, or the manifests of a folder, each also as it was signed.

    Raises:
        InvalidRequest: There is none.
    """
    if not place.is_dir():
        return [place]
    found = sorted(each for each in place.iterdir() if each.name.endswith(FORMS))
    if not found:
        raise InvalidRequest(f"{place} holds no manifest of Gramine's", reason=REASON)
    return found


def path_of(uri: str) -> str:
    """The host's path in a `file:` URI, normalised; empty for another kind."""
    return posixpath.normpath(uri.removeprefix(_FILE)) if uri.startswith(_FILE) else ""


def within(path: str, folder: str) -> bool:
    """Whether `path` is `folder`, or below it; both normalised."""
    if folder == ".":
        return not path.startswith("/")
    return bool(folder) and (path == folder or path.startswith(folder.rstrip("/") + "/"))


def overlap(first: str, second: str) -> bool:
    """Whether one of two paths is the other, or below it."""
    return within(first, second) or within(second, first)


def joined(host: str, inside: str, mounted: str) -> str:
    """The path below `host` of what lies at `inside`, below `mounted`."""
    return posixpath.normpath(posixpath.join(host, posixpath.relpath(inside, mounted))) if host else ""


def _mount(key: str, entry: Mapping[str, Any]) -> Mount:
    found = {name: value for name, value in entry.items() if isinstance(value, str)}
    path = found.get("path", "")
    path = posixpath.normpath(path) if path.startswith("/") else ""
    return Mount(key, "/" + path.lstrip("/") if path else "", found.get("type", "chroot"), *_rest(found))


def _rest(found: Mapping[str, str]) -> tuple[str, str]:
    return found.get("uri", ""), found.get("key_name", "")


def _fixed(value: Any) -> str | None:
    value = value.get("value") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _reasons(file: Path) -> Mapping[str, str]:
    """Of a table `"sys.insecure__allow_eventfd" = "why"`; what is no sentence is no reason."""
    if not file.exists():
        return {}
    return {key: text for key, text in _toml(file).items() if isinstance(text, str) and len(text.split()) > 2}


def _toml(file: Path) -> Mapping[str, Any]:
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise InvalidRequest(f"{file} is larger than a manifest can be", reason=REASON)
        return tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}", reason=REASON) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidRequest(f"{file} is not TOML: {error}", reason=REASON) from error
