"""Keeps of CustomResourceDefinitions what objects are checked by: `python -m vectors.make_kubernetes SOURCE CRD.yaml`.

Descriptions go, and what stands there many times (a pod's specification, thirty times) stands once, under `$defs`.
SOURCE says where the files are from, `kedacore/keda v2.20.2` say.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "kubernetes"
_SHORT_BYTES = 80


def kept(schema: Any, *, names: bool = False) -> Any:
    """A schema without its descriptions; `names` where the keys are names of fields and not words of the schema."""
    if isinstance(schema, list):
        return [kept(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: kept(value, names=key == "properties" and not names)
        for key, value in schema.items()
        if names or key not in ("description", "example", "default", "format", "title")
    }


def counted(schema: Any, counts: Counter[str]) -> None:
    """Count how often each part of a schema stands there."""
    if isinstance(schema, dict):
        counts[_text(schema)] += 1
        for each in schema.values():
            counted(each, counts)


def shared(schema: Any, counts: Counter[str], definitions: dict[str, Any], *, names: bool = False) -> Any:
    """The schema with a reference where a part of it stands several times."""
    if not isinstance(schema, dict):
        return schema
    text = _text(schema)
    inner = {
        key: shared(value, counts, definitions, names=key == "properties" and not names)
        for key, value in schema.items()
    }
    if names or counts[text] == 1 or len(text) < _SHORT_BYTES:
        return inner
    name = hashlib.sha256(text.encode()).hexdigest()[:8]
    definitions[name] = inner
    return {"$ref": f"#/$defs/{name}"}


def _text(schema: Any) -> str:
    return json.dumps(schema, sort_keys=True)


def main(source: str, *files: str) -> None:
    """Write a file for each kind of the definitions."""
    for file in files:
        definition = yaml.safe_load(Path(file).read_text())["spec"]
        for version in definition["versions"]:
            counts: Counter[str] = Counter()
            schema, definitions = kept(version["schema"]["openAPIV3Schema"]), dict[str, Any]()
            counted(schema, counts)
            written = {
                "source": source,
                "apiVersion": f"{definition['group']}/{version['name']}",
                "kind": definition["names"]["kind"],
                "schema": shared(schema, counts, definitions) | {"$defs": dict(sorted(definitions.items()))},
            }
            path = FOLDER / f"{written['kind'].lower()}-{version['name']}.json"
            path.write_text(json.dumps(written, separators=(",", ":")) + "\n")
            print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
