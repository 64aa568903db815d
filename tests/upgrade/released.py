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
VERSIONS = ROOT / ".bench" / "upgrade" / "versions"


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
    version = installed(ref, VERSIONS)
    tree = version.bin.parents[1] / "tree"
    told = subprocess.run([version.bin / "python", "-P", PROMISES], capture_output=True, text=True, check=True).stdout
    FOLDER.mkdir(exist_ok=True)
    describe(tree / "protos", FOLDER / f"{name}.binpb")
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", ref], capture_output=True, text=True, check=True).stdout
    (FOLDER / f"{name}.json").write_text(json.dumps({"commit": commit.strip(), **json.loads(told)}, indent=1) + "\n")


def describe(protos: Path, out: Path) -> None:
    """Write the descriptors of all .proto files in a folder, and of what they import."""
    files = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    command = [PROTOC, "-m", "grpc_tools.protoc", f"-I{protos}", "--include_imports", f"--descriptor_set_out={out}"]
    subprocess.run([*command, *files], check=True, cwd=protos)


if __name__ == "__main__":
    record(*sys.argv[1:])
