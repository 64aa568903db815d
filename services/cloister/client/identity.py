"""An identity's folder, as `cloister identity issue` makes it."""

from __future__ import annotations

from pathlib import Path

from cloister.errors import NotFound
from cloister.rpc.identity import TlsFiles


def tls_files(folder: Path) -> TlsFiles:
    """The three TLS files in an identity's folder; raises NotFound when it holds none."""
    files = TlsFiles(
        certificate=folder / "certificate.pem",
        private_key=folder / "private_key.pem",
        trust_roots=folder / "trust_roots.pem",
    )
    missing = [path.name for path in (files.certificate, files.private_key, files.trust_roots) if not path.is_file()]
    if missing:
        raise NotFound(
            f"{folder} holds no {' and no '.join(missing)}; name the folder of an identity, "
            "as 'cloister identity issue' makes it"
        )
    return files
