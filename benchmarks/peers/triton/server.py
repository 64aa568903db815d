"""Triton with its Python back end: the server and stub that nvidia-pytriton bundles, on a model repository of ours.

Not pytriton's own proxy, which sends every request on to yet another process. Becomes the server when all is in place.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PEERS))

import numpy as np
from engine import Engine

TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8"}


def config(name: str, engine: Engine) -> str:
    """Of the model. One instance: a second would be a second process with a second copy of the weights."""
    sides = []
    answer = engine.infer({key: np.zeros([1, *shape[1:]], dtype) for key, (dtype, shape) in engine.inputs.items()})
    outputs = {key: (array.dtype, list(array.shape)) for key, array in answer.items()}
    for side, tensors in (("input", engine.inputs), ("output", outputs)):
        for key, (dtype, shape) in tensors.items():
            dims = [-1, *shape[1:]]
            sides.append(f'{side} [{{ name: "{key}", data_type: {TYPES[np.dtype(dtype).name]}, dims: {dims} }}]')
    return "\n".join([f'name: "{name}"', 'backend: "python"', "instance_group [{ count: 1, kind: KIND_CPU }]", *sides])


def backends(bundled: Path, folder: Path) -> Path:
    """A back-end folder with the stub for this Python in it."""
    made = folder / "backends"
    shutil.copytree(bundled / "backends", made, dirs_exist_ok=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = shutil.copy(bundled / "python_backend_stubs" / version / "triton_python_backend_stub", made / "python")
    Path(stub).chmod(0o755)
    return made


def main() -> None:
    """Write the repository, become the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--port", type=int)
    parser.add_argument("--identity", type=Path)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    site = Path(sysconfig.get_path("purelib"))
    bundled = site / "pytriton" / "tritonserver"
    place = chosen.folder / "repository" / chosen.name
    (place / "1").mkdir(parents=True, exist_ok=True)
    (place / "config.pbtxt").write_text(config(chosen.name, Engine(chosen.model, parallel=False)) + "\n")
    shutil.copy(Path(__file__).with_name("model.py"), place / "1" / "model.py")
    environment = {
        **os.environ,
        "BENCH_MODEL": str(chosen.model),
        "BENCH_PEERS": str(PEERS),
        # The stub looks here for the Python whose packages it takes, and would find another NumPy elsewhere.
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}",
    }
    command = [
        str(bundled / "bin" / "tritonserver"),
        f"--model-repository={place.parent}",
        f"--backend-directory={backends(bundled, chosen.folder)}",
        f"--grpc-port={chosen.port}",
        "--grpc-address=127.0.0.1",
        "--allow-http=false",
        "--allow-metrics=false",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={chosen.identity / 'certificate.pem'}",
        f"--grpc-server-key={chosen.identity / 'private_key.pem'}",
        f"--grpc-root-cert={chosen.identity / 'trust_roots.pem'}",
    ]
    os.execve(command[0], command, environment)  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
