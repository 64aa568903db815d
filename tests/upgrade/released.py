"""What versions that were released promised, as it was recorded then: `protos/released`.

    python -m upgrade.released 0.1.0 COMMIT        records one

NAME.binpb is its wire, as protoc describes it: tests make its messages and stubs from that, without its code. NAME.json
has its commit, settings and reasons. What is recorded is never changed; how much of it must still hold is said by
`docs/guides/upgrading.md`, and held by `tests/repo/test_compatibility.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version as Number

from upgrade.versions import ROOT, installed

FOLDER = ROOT / "protos" / "released"
PROTOC = ROOT / ".venv-protoc" / "bin" / "python"
PROMISES = Path(__file__).with_name("promises.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """One version.

    Attributes:
        settings: By service, each setting with dots, and whether it had to be there.
        reasons: Of errors.
        wire: A FileDescriptorSet, in a file.
    """

    name: str
    commit: str
    settings: Mapping[str, Mapping[str, bool]]
    reasons: frozenset[str]
    wire: Path


def last() -> Released:
    """The newest."""
    file = max(FOLDER.glob("*.json"), key=lambda each: Number(each.stem))
    told = json.loads(file.read_text())
    return Released(
        name=file.stem,
        commit=told["commit"],
        settings=told["settings"],
        reasons=frozenset(told["reasons"]),
        wire=file.with_suffix(".binpb"),
    )


def record(name: str, ref: str) -> None:
    """Keep what a commit promises, under the name of a version."""
    version = installed(ref)
    tree = version.bin.parents[1] / "tree"
    told = subprocess.run([version.bin / "python", "-P", PROMISES], capture_output=True, text=True, check=True).stdout
    FOLDER.mkdir(exist_ok=True)
    generate = [PROTOC, ROOT / "protos" / "generate.py"]
    subprocess.run([*generate, "--describe", tree / "protos", FOLDER / f"{name}.binpb"], check=True)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", ref], capture_output=True, text=True, check=True).stdout
    (FOLDER / f"{name}.json").write_text(json.dumps({"commit": commit.strip(), **json.loads(told)}, indent=1) + "\n")


if __name__ == "__main__":
    record(*sys.argv[1:])
