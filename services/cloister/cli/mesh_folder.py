"""A mesh folder: everything that one machine, or one person, has of a mesh.

`cloister init` makes a whole one. `cloister identity issue --out` makes a small one for somebody else: addresses, trust
bundle and one identity in the same places, so that every command works with either.

    mesh.toml                      cluster, whether its workers are simulated, addresses
    trust.json                     what clients believe by; no secret
    identities/<role>/<name>/      certificate.pem private_key.pem trust_roots.pem, and signing_key.pem of an owner
    pki/                           keys to keep offline: the root CA's, and who may name the verifier's signing keys
    verifier/ provisioner/ gateway/ worker/    settings and state of each service
    redis/                         configuration, users and data of the mesh's own Redis, where jobs wait
    models/<name>/<version>/       sealed models, which workers read
    flink/                         key stores for a Flink cluster of its own
    logs/ run/                     what 'cloister up' writes
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from cloister.cli.failures import ExitCode, Stop

DEFAULT_FOLDER = Path(".cloister")
ENVIRONMENT = "CLOISTER_MESH"
MAIN = "main"  # the name of each identity that 'cloister init' makes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """What mesh.toml says, and where the rest is.

    Addresses are host:port; all but the first three may be empty. That of the provisioner may be several, with commas:
    one serves, and the others stand by.
    """

    folder: Path
    cluster: str
    simulated: bool
    gateway: str
    verifier: str
    provisioner: str
    verifier_https: str = ""
    gateway_https: str = ""
    console: str = ""
    redis: str = ""

    @classmethod
    def read(cls, folder: Path) -> Mesh:
        """Read `folder`; raises Stop with advice when it is no mesh folder."""
        try:
            found = tomllib.loads((folder / "mesh.toml").read_text(encoding="utf-8"))
            addresses = found["addresses"]
            return cls(
                folder=folder,
                cluster=str(found["cluster"]),
                simulated=bool(found["simulated"]),
                gateway=str(addresses["gateway"]),
                verifier=str(addresses["verifier"]),
                provisioner=str(addresses["provisioner"]),
                verifier_https=str(addresses.get("verifier_https", "")),
                gateway_https=str(addresses.get("gateway_https", "")),
                console=str(addresses.get("console", "")),
                redis=str(addresses.get("redis", "")),
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Stop(
                f"{folder} is no mesh folder; make one with 'cloister init {folder} --model NAME', or name yours with "
                "--mesh: what a mesh's founder handed you is one too",
                ExitCode.USAGE,
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise Stop(
                f"{folder / 'mesh.toml'} does not parse; compare it with one that 'cloister init' makes"
            ) from error

    def write(self, folder: Path) -> None:
        """Write mesh.toml into `folder`."""
        (folder / "mesh.toml").write_text(
            "# Made by 'cloister init'. Addresses are routes, not trust: trust.json says whom to believe.\n"
            f'cluster = "{self.cluster}"\n'
            f"simulated = {str(self.simulated).lower()}\n\n"
            "[addresses]\n"
            f'gateway = "{self.gateway}"\n'
            f'verifier = "{self.verifier}"\n'
            f'provisioner = "{self.provisioner}"\n'
            + (f'verifier_https = "{self.verifier_https}"\n' if self.verifier_https else "")
            + (f'gateway_https = "{self.gateway_https}"\n' if self.gateway_https else "")
            + (f'console = "{self.console}"\n' if self.console else "")
            + (f'redis = "{self.redis}"\n' if self.redis else "")
        )

    @property
    def provisioners(self) -> dict[str, str]:
        """The address of each provisioner, by the name of its program."""
        addresses = self.provisioner.split(",")
        return {"provisioner" if not at else f"provisioner-{at + 1}": each for at, each in enumerate(addresses)}

    @property
    def trust(self) -> Path:
        """The trust bundle."""
        return self.folder / "trust.json"

    @property
    def console_link(self) -> Path:
        """Where a running console keeps its present one-time link."""
        return self.folder / "run" / "console.link"

    @property
    def key_signer(self) -> Path:
        """The key of whoever may say which keys the verifier signs with; keep it offline."""
        return self.folder / "pki" / "verifier_keys.key"

    @property
    def signing_keys(self) -> Path:
        """Folder of the keys that the verifier signs with."""
        return self.folder / "verifier" / "signing_keys"

    @property
    def redis_folder(self) -> Path:
        """Of the mesh's own Redis; a mesh that was founded without jobs has none."""
        return self.folder / "redis"

    @property
    def models(self) -> Path:
        """Where workers look for sealed models."""
        return self.folder / "models"

    @property
    def flink(self) -> Path:
        """Key stores for a Flink cluster."""
        return self.folder / "flink"

    def identity(self, role: str, name: str = "") -> Path:
        """Folder of one identity, which need not exist.

        Without a name it is `main`, or where there is no `main` the only one of that role: what somebody was handed.
        """
        identities = self.folder / "identities" / role
        if name or (identities / MAIN).exists():
            return identities / (name or MAIN)
        found = [certificate.parent for certificate in identities.glob("*/certificate.pem")]
        return found[0] if len(found) == 1 else identities / MAIN

    def settings(self, service: str) -> Path:
        """Settings file of one service."""
        return self.folder / service / "settings.toml"
