"""Makes the stubs under services/cloister/api from the .proto files here: the only caller of protoc.

    python protos/generate.py           write them
    python protos/generate.py --check   exit 1 and name the files that differ
    python protos/generate.py --describe FOLDER FILE    descriptors of the .proto files in a folder, an older one's say

Runs in an environment of its own (protos/protoc.lock, `make protos`): the oldest toolchain whose stubs still load
under every protobuf we support. The Open Inference Protocol's messages are put into a descriptor pool of their own,
because tritonclient and kserve register the same names in the shared one, and a user may import them beside us.
"""

from __future__ import annotations

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
STUBS = HERE.parent / "services"
PACKAGES = ("cloister/api/v1", "cloister/api/oip")
OWN_POOL = "cloister/api/oip"


def generate(into: Path) -> None:
    """Run protoc on every .proto here and lay the stubs out under `into`, as they are imported."""
    protos = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.proto"))
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    outs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", f"--plugin=protoc-gen-mypy_grpc={plugin}"]
    subprocess.run([*command, *outs, *protos], check=True, cwd=HERE)
    for stub in into.joinpath(OWN_POOL).glob("*_pb2.py"):
        text = stub.read_text()
        own = text.replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()")
        if own == text:
            raise SystemExit(f"{stub.name}: the default descriptor pool was not found; has protoc changed its output?")
        stub.write_text(own)
    for path in into.rglob("*_pb2_grpc.py"):
        if "class " not in path.read_text().replace("# class", ""):  # a .proto without a service
            path.unlink()
            path.with_suffix(".pyi").unlink(missing_ok=True)


def describe(folder: Path, into: Path) -> None:
    """Write the descriptors of all .proto files in a folder, and of what they import, as a FileDescriptorSet."""
    protos = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.proto"))
    options = (f"-I{folder}", "--include_imports", f"--descriptor_set_out={into}")
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *protos], check=True, cwd=folder)


def drift(fresh: Path) -> list[str]:
    """Names of the stubs that are missing, extra or different beside `fresh`."""
    names: set[str] = set()
    for root in (fresh, STUBS):
        for package in PACKAGES:
            names |= {
                str(p.relative_to(root)) for p in (root / package).glob("*_pb2*.py*") if p.suffix in {".py", ".pyi"}
            }
    return sorted(
        name
        for name in names
        if not (fresh / name).is_file()
        or not (STUBS / name).is_file()
        or not filecmp.cmp(fresh / name, STUBS / name, shallow=False)
    )


def main() -> int:
    """Write the stubs, or say which differ; or write descriptors."""
    if sys.argv[1:2] == ["--describe"]:
        describe(*(Path(word).absolute() for word in sys.argv[2:]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        changed = drift(fresh)
        if "--check" in sys.argv[1:]:
            for name in changed:
                print(f"services/{name} differs from protos/: run `make protos` and commit", file=sys.stderr)
            return 1 if changed else 0
        for name in changed:
            target = STUBS / name
            if (fresh / name).is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((fresh / name).read_bytes())
            else:
                target.unlink()
            print(f"services/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
