"""Settings of the console: whom it asks, as whom, and where a browser finds it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cloister.kit.config import settings_error
from cloister.rpc.identity import TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a console needs to know.

    Attributes:
        cluster: Trust domain of the mesh.
        gateway: host:port, as are `verifier` and `provisioner`.
        trust: The trust bundle that evidence is judged by.
        identity: Of an auditor, who may read everything that is shown and change nothing.
        listen: host:port of the pages.
        https: The certificate that browsers see, and whom their own must lead to; None for plain HTTP, which is for
            the loopback interface alone.
        link: Where the present one-time link is written for whoever may read it; None to write it nowhere.
    """

    cluster: str
    gateway: str
    verifier: str
    provisioner: str
    trust: Path
    identity: TlsFiles
    listen: str
    https: TlsFiles | None = None
    link: Path | None = None

    def __post_init__(self) -> None:
        if self.https is None and not self.is_loopback:
            raise settings_error(
                "listen",
                "plain HTTP is for the loopback interface alone, such as 127.0.0.1; elsewhere name an identity to "
                "serve by, and browsers show a client certificate of an operator or auditor",
            )

    @property
    def host(self) -> str:
        """Where it listens, without the port."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Where it listens, without the host."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
