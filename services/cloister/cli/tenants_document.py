"""The tenants file as commands change it: comments and order stay, and what would make no sense is not written."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import tomlkit

from cloister.cli.failures import Stop
from cloister.cli.gateway_files import file_named
from cloister.cli.mesh_folder import Mesh
from cloister.cli.settings_text import TENANTS
from cloister.errors import InvalidRequest
from cloister.gateway.api_keys import ApiKey
from cloister.gateway.limits import Limits, TenantLimits
from cloister.gateway.tenant_file import TenantsFile
from cloister.rpc.files import read_guarded, replace_private


class TenantsDocument:
    """One mesh's tenants file.

    Attributes:
        path: Where it is.
        content: What it says.
    """

    def __init__(self, mesh: Mesh) -> None:
        """Read it; raises Stop where there is none, or none that makes sense."""
        self._cluster = mesh.cluster
        self.path = file_named(mesh, "tenants_file", TENANTS)
        self._raw = read_guarded(self.path)
        self.content = self._checked(self._raw, "makes no sense and is left as it is")

    def add(self, name: str, facts: Mapping[str, Any]) -> None:
        """Add a tenant, of whom nothing is left out that is not None."""
        if name in self.content.tenants:
            raise Stop(f"there is a tenant {name} already; change it in {self.path}")
        given = {key: value for key, value in facts.items() if value is not None}

        def change(document: Any) -> None:
            document.setdefault("tenants", {})[name] = given

        self._change(change)

    def remove(self, name: str) -> None:
        """Take a tenant away, with all its keys."""
        self._known(name)

        def change(document: Any) -> None:
            _remove(document, "tenants", name)

        self._change(change)

    def add_key(self, name: str, key: ApiKey, expires: datetime | None) -> None:
        """Note a key of a tenant by its hash."""
        self._known(name)
        facts: dict[str, Any] = {"sha256": key.sha256}
        if expires is not None:
            facts["expires"] = expires.replace(microsecond=0)

        def change(document: Any) -> None:
            document["tenants"][name].setdefault("keys", {})[key.id] = facts

        self._change(change)

    def revoke_key(self, identifier: str) -> str:
        """Take a key away; return whose it was."""
        for name, tenant in self.content.tenants.items():
            if identifier in tenant.keys:

                def change(document: Any, name: str = name) -> None:
                    _remove(document["tenants"][name], "keys", identifier)

                self._change(change)
                return name
        raise Stop(f"no tenant has a key '{identifier[:40]}'; 'cloister tenant list' shows their ids")

    def _known(self, name: str) -> None:
        if name not in self.content.tenants:
            raise Stop(f"there is no tenant '{name[:80]}'; 'cloister tenant list' shows those there are")

    def _change(self, change: Callable[[Any], None]) -> None:
        """Replace the file by one in which nothing else has changed; who may read it may still."""
        document, wanted = tomlkit.parse(self._raw), tomllib.loads(self._raw.decode())
        change(document)
        change(wanted)
        raw = tomlkit.dumps(document).encode()
        if tomllib.loads(raw.decode()) != wanted:
            raise Stop(f"{self.path} is laid out so that it cannot be changed without loss; change it with an editor")
        content = self._checked(raw, "is left as it is, for it would make no sense")
        mode = self.path.stat().st_mode & 0o755
        try:
            replace_private(self.path, raw)
            self.path.chmod(mode)
        except OSError as error:
            raise Stop(f"{self.path} cannot be written: {error.strerror}") from error
        self._raw, self.content = raw, content

    def _checked(self, raw: bytes, otherwise: str) -> TenantsFile:
        try:
            found = TenantsFile.parse(raw, Path(self.path.name), self._cluster)
            Limits(TenantLimits(calls=1), {name: entry.limits for name, entry in found.tenants.items()})
        except (InvalidRequest, ValueError) as error:
            raise Stop(f"{self.path} {otherwise}: {error}") from error
        return found


def _remove(table: Any, inner: str, key: str) -> None:
    """Take an entry out of a table's inner one, which goes with its last."""
    del table[inner][key]
    if not table[inner]:
        del table[inner]
