"""Which version answers where a client names none, or a label: the operator's choice, in one file.

    [models.iris]
    default = 2
    labels = { stable = 2, canary = 3 }

A model that is not in it, or has no default, is answered by the newest version that all of its workers serve. A default
or a label that no worker serves is answered by none: nobody who pinned version 2 finds that version 1 has answered.
Routing decides for clients that leave it open. A client that names a version by its number, or a digest, gets that one
or nothing, and a sealed request goes only where it was sealed for.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from cloister.errors import InvalidRequest

REASON: Final = "routing.invalid"
MAX_LABELS: Final = 64
NAME: Final = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,62}")
VERSION: Final = re.compile(r"[1-9][0-9]{0,9}")
LABEL: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_HEAD: Final = "# Which versions answer; watched by every gateway. 'cloister model default' and 'label' write it.\n"
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModelRouting:
    """The choice for one model.

    Attributes:
        default: Version for clients that name none; empty for the newest.
        labels: Versions by label.
    """

    default: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, slots=True)
class Routing:
    """The choices for all models."""

    models: Mapping[str, ModelRouting] = field(default_factory=lambda: _NONE)

    @classmethod
    def parse(cls, raw: bytes) -> Routing:
        """Read a routing file.

        Raises:
            InvalidRequest: Not TOML, or something in it is no model, version or label (`routing.invalid`).
        """
        try:
            written = tomllib.loads(raw.decode())
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise _wrong(f"not TOML: {error}") from error
        models = _table(written, "the file", {"models"}).get("models", {})
        return cls({name: _model(name, table) for name, table in _table(models, "models").items()})

    def encode(self) -> bytes:
        """The file that `parse` reads back."""
        parts = [_HEAD]
        for name, model in sorted(self.models.items()):
            parts.append(f"\n[models.{json.dumps(name)}]\n")
            if model.default:
                parts.append(f"default = {model.default}\n")
            if model.labels:
                labels = ", ".join(f"{label} = {version}" for label, version in sorted(model.labels.items()))
                parts.append(f"labels = {{ {labels} }}\n")
        return "".join(parts).encode()

    def of(self, name: str) -> ModelRouting:
        """The choice for one model; an empty one where there is none."""
        return self.models.get(name) or ModelRouting()

    def with_default(self, name: str, version: str) -> Routing:
        """The same with another default; empty for the newest."""
        return self._with(name, replace(self.of(name), default=version))

    def with_labels(self, name: str, changes: Mapping[str, str]) -> Routing:
        """The same with labels set, or taken away where the version is empty."""
        labels = {label: version for label, version in {**self.of(name).labels, **changes}.items() if version}
        return self._with(name, replace(self.of(name), labels=labels))

    def chosen(self, name: str, asked: str) -> str | None:
        """What a client's `model_version` stands for.

        Returns:
            A version; empty where that is left to us and the operator has not chosen; None for an unknown label.
        """
        if asked.isdecimal():
            return asked
        return self.of(name).labels.get(asked) if asked else self.of(name).default

    def _with(self, name: str, model: ModelRouting) -> Routing:
        models = {**self.models, name: model}
        if model == ModelRouting():
            del models[name]
        return Routing.parse(Routing(models).encode())


def _model(name: str, table: object) -> ModelRouting:
    if not NAME.fullmatch(name):
        raise _wrong(f"'{name[:80]}' is no model name")
    known = _table(table, name, {"default", "labels"})
    labels = _table(known.get("labels", {}), f"{name}: labels")
    if len(labels) > MAX_LABELS:
        raise _wrong(f"{name} has more than {MAX_LABELS} labels")
    for label in labels:
        if not LABEL.fullmatch(label):
            raise _wrong(f"{name}: '{label[:80]}' is no label: 1 to 32 of a-z 0-9 _ - that begin with a letter")
    default = _version(known["default"], f"{name}: default") if "default" in known else ""
    return ModelRouting(default, {label: _version(version, f"{name}: {label}") for label, version in labels.items()})


def _table(value: object, where: str, known: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"{where} is no table")
    for key in value:
        if known is not None and key not in known:
            raise _wrong(f"{where}: unknown key '{key[:80]}'")
    return value


def _version(value: object, where: str) -> str:
    if type(value) is not int or not VERSION.fullmatch(str(value)):
        raise _wrong(f"{where} is no version, a number from 1 to 9999999999")
    return str(value)


def _wrong(problem: str) -> InvalidRequest:
    return InvalidRequest(problem, reason=REASON)
