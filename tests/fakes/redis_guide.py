"""What docs/guides/redis.md tells an operator to write, by the language of its blocks, with passwords filled in."""

from __future__ import annotations

import re
from pathlib import Path

from fakes.pki import CLUSTER
from fakes.redis_server import PASSWORD, sha256

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "redis.md").read_text()


def block(language: str) -> str:
    """The one block of that language, for the mesh of the tests; every password is the same one."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    text = re.sub(r"<sha256 of [^>]*>", sha256(PASSWORD), str(found))
    return re.sub(r"<password of [^>]*>", PASSWORD, text).replace("mesh.example.internal", CLUSTER)
