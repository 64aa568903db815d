"""A verifier that keeps what it remembers in the mesh's own Redis, as docs/guides/verifier-replicas.md has it.

One verifier would keep its state itself. It does here so that the enclave of Redis has more to do than to hold jobs.

    python deploy/demo/shared_state.py MESH
"""

from __future__ import annotations

import sys
from pathlib import Path

from cloister.cli.mesh_folder import Mesh
from cloister.cli.settings_text import redis_of


def share_state(folder: Path) -> None:
    """Name MESH/redis in the verifier's settings; the verifier must not have been started yet."""
    mesh = Mesh.read(folder)
    settings = mesh.settings("verifier")
    settings.write_text(settings.read_text() + redis_of(mesh, "verifier"))


if __name__ == "__main__":
    share_state(Path(sys.argv[1]))
