"""Objects of Kubernetes: rendered by kubectl, and held against the schemas of Kubernetes and of the CRDs that we use.

Schemas of CRDs lie in tests/vectors/kubernetes. As an API server with strict validation does, fields that no schema
knows are refused.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CLUSTER: Final = ROOT / "deploy" / "kubernetes"
KUBERNETES: Final = "1.31"
CRDS: Final = ROOT / "tests" / "vectors" / "kubernetes"

Object = dict[str, Any]


@cache
def rendered(folder: Path) -> tuple[Object, ...]:
    """All objects of a kustomization."""
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parsed(done.stdout)


def parsed(text: str) -> tuple[Object, ...]:
    """All objects of a text in YAML."""
    return tuple(each for each in yaml.safe_load_all(text) if each)


def validate(each: Mapping[str, Any]) -> None:
    """Check one object, of whatever kind; AssertionError says where it does not fit, or that nobody has its schema."""
    _validate(json.dumps(each))


@cache
def _validate(text: str) -> None:
    each = json.loads(text)
    where, kind = f"{each['kind']} {each['metadata']['name']}", (each["apiVersion"], each["kind"])
    try:
        if kind in _crds():
            _crds()[kind].validate(each)
        else:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise AssertionError(f"{where}: {'.'.join(map(str, error.path))}: {error.message}") from error
    except jsonschema.ValidationError as error:
        raise AssertionError(f"{where}: {error.json_path}: {error.message}") from error
    except kubernetes_validate.SchemaNotFoundError as error:
        raise AssertionError(f"{where}: there is no schema of {kind[0]} {kind[1]} in {CRDS}") from error


@cache
def _crds() -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    found = {}
    for path in sorted(CRDS.glob("*.json")):
        crd = json.loads(path.read_text())
        found[crd["apiVersion"], crd["kind"]] = jsonschema.Draft202012Validator(_strict(crd["schema"]))
    return found


def _strict(schema: Any) -> Any:
    """A structural schema as JSON Schema that refuses fields which it does not name."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    open_ended = "additionalProperties" in found or found.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(found.get("properties"), dict) and found.get("type") == "object" and not open_ended:
        found["additionalProperties"] = False
    return found
