"""The tenants file as commands change it: comments and order stay, and what would make no sense is not written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

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
        raw = read_guarded(self.path)
        self.content = self._checked(raw, "makes no sense and is left as it is")
        try:
            self._document = tomlkit.parse(raw)
        except TOMLKitError as error:
            raise Stop(f"{self.path} does not parse: {error}") from error

    def add(self, name: str, facts: Mapping[str, Any]) -> None:
        """Add a tenant, of whom nothing is left out that is not None."""
        if name in self.content.tenants:
            raise Stop(f"there is a tenant {name} already; change it in {self.path}")
        table = tomlkit.table()
        for key, value in facts.items():
            if value is not None:
                table.add(key, value)
        self._tenants().add(name, table)
        self._write()

    def remove(self, name: str) -> None:
        """Take a tenant away, with all its keys."""
        self._known(name)
        del self._tenants()[name]
        self._write()

    def add_key(self, name: str, key: ApiKey, expires: datetime | None) -> None:
        """Note a key of a tenant by its hash."""
        self._known(name)
        table = tomlkit.table()
        table.add("sha256", key.sha256)
        if expires is not None:
            table.add("expires", expires.replace(microsecond=0))
        tenant: Any = self._tenants()[name]
        if "keys" not in tenant:
            tenant.add("keys", tomlkit.table(is_super_table=True))
        tenant["keys"].add(key.id, table)
        self._write()

    def revoke_key(self, identifier: str) -> str:
        """Take a key away; return whose it was."""
        for name, tenant in self.content.tenants.items():
            if identifier in tenant.keys:
                keys: Any = self._tenants()[name]
                del keys["keys"][identifier]
                self._write()
                return name
        raise Stop(f"no tenant has a key '{identifier[:40]}'; 'cloister tenant list' shows their ids")

    def _known(self, name: str) -> None:
        if name not in self.content.tenants:
            raise Stop(f"there is no tenant '{name[:80]}'; 'cloister tenant list' shows those there are")

    def _tenants(self) -> Table:
        if "tenants" not in self._document:
            self._document.add("tenants", tomlkit.table(is_super_table=True))
        found: Any = self._document["tenants"]
        tenants: Table = found
        return tenants

    def _write(self) -> None:
        """Replace the file; who may read it may still."""
        raw = tomlkit.dumps(self._document).encode()
        self.content = self._checked(raw, "is left as it is, for it would make no sense")
        mode = self.path.stat().st_mode & 0o755
        try:
            replace_private(self.path, raw)
            self.path.chmod(mode)
        except OSError as error:
            raise Stop(f"{self.path} cannot be written: {error.strerror}") from error

    def _checked(self, raw: bytes, otherwise: str) -> TenantsFile:
        try:
            found = TenantsFile.parse(raw, Path(self.path.name), self._cluster)
            Limits(TenantLimits(calls=1), {name: entry.limits for name, entry in found.tenants.items()})
        except (InvalidRequest, ValueError) as error:
            raise Stop(f"{self.path} {otherwise}: {error}") from error
        return found
