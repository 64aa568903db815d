"""What one person has of a mesh, in a folder: addresses, a trust bundle, an identity.

`cloister init` makes a whole one, `cloister identity issue --out` a small one to hand to somebody else. Addresses are
routes, not trust: whom to believe, the trust bundle says.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cloister.errors import InvalidRequest, NotFound

MAIN: Final = "main"
"""The name of each identity that `cloister init` makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshFolder:
    """A mesh folder; addresses are host:port."""

    folder: Path
    gateway: str
    verifier: str
    provisioner: str

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read its `mesh.toml`.

        Raises:
            NotFound: It holds none.
            InvalidRequest: It does not parse.
        """
        try:
            addresses = tomllib.loads((folder / "mesh.toml").read_text(encoding="utf-8"))["addresses"]
            return cls(folder=folder, **{name: str(addresses[name]) for name in ("gateway", "verifier", "provisioner")})
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(
                f"{folder} is no mesh folder; 'cloister init' makes one, 'cloister identity issue --out' one for others"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise InvalidRequest(
                f"{folder / 'mesh.toml'} does not parse; compare it with one that was issued"
            ) from error

    @property
    def trust(self) -> Path:
        """The trust bundle."""
        return self.folder / "trust.json"

    def identity(self, role: str) -> Path:
        """The folder of the only identity of a role, or of `main` where there are several.

        Raises:
            NotFound: It has none, or several and none of them is `main`.
        """
        there = self.folder / "identities" / role
        names = sorted(path.name for path in there.iterdir()) if there.is_dir() else []
        if MAIN in names:
            return there / MAIN
        if len(names) != 1:
            many = f"several ({', '.join(names)}): name one of them" if names else "none"
            raise NotFound(f"identities of the role '{role}' in {self.folder}: {many}")
        return there / names[0]
