"""Settings: a frozen dataclass, filled from its defaults, one TOML file, then the environment.

Unknown keys are errors, and every message names the key, where it came from, and what was wrong with it. The values
that were wrong are not repeated: a secret pasted into the wrong place must not reach a log. Inside an enclave the
environment belongs to the host; there the loader takes from it only the fields marked `host_chosen`.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from cloister.errors import CloisterError, InvalidRequest
from cloister.kit import values

REASON: Final = "settings.invalid"
_MAX_FILE_BYTES: Final = 1 << 20
_HOST_CHOSEN: Final = "host_chosen"

S = TypeVar("S")


def host_chosen(default: Any) -> Any:
    """Mark a field of a settings class as one that the host may set through the environment of an enclave."""
    return dataclasses.field(default=default, metadata={_HOST_CHOSEN: True})


def settings_error(key: str, problem: str) -> InvalidRequest:
    """The error for a setting that loads and makes no sense; a service that raises it ends with exit code 2."""
    return InvalidRequest(f"{key}: {problem}", reason=REASON)


def load(
    settings_class: type[S],
    file: Path | None,
    environ: Mapping[str, str],
    *,
    prefix: str,
    in_enclave: bool = False,
) -> S:
    """Fill `settings_class`.

    Args:
        settings_class: A frozen dataclass; fields are str, int, float, bool, Path, tuple[str, ...], another dataclass,
            or one of these or None; or a Mapping from names to dataclasses, which only the file can fill. It may check
            itself in `__post_init__` and raise ValueError.
        file: TOML, or None for defaults and environment alone. Relative paths count from its folder.
        environ: Variables that begin with `prefix`; the rest is the field's name in capitals, with `_` between a table
            and its key. Lists are separated by commas. Relative paths count from the working directory.
        prefix: Such as `CLOISTER_WORKER_`.
        in_enclave: Refuse variables for fields that are not marked `host_chosen`.

    Raises:
        InvalidRequest: With reason `settings.invalid`; one line that names the key and where it stands.
    """
    fields = dict(_leaves(settings_class, ()))
    written = _toml(_read(file), file) if file is not None else {}
    source = str(file) if file is not None else "settings"
    flat = _written(settings_class, written, source, file.parent if file is not None else Path())
    origin = dict.fromkeys(flat, source)
    for path, variable, text in _from_environment(fields, environ, prefix, in_enclave=in_enclave):
        with _blaming(f"{variable}:"):
            flat[path] = values.from_text(text, fields[path].kind)
        origin[path] = variable
    for path, value in flat.items():
        flat[path] = _structured(value, fields[path].kind, path, origin[path])
    return _build(settings_class, flat, (), source)


def parse(settings_class: type[S], raw: bytes, file: Path) -> S:
    """Fill `settings_class` from what was read of a file, whose name stands in the messages; raises as `load` does."""
    fields = dict(_leaves(settings_class, ()))
    flat = _written(settings_class, _toml(raw, file), str(file), file.parent)
    flat = {path: _structured(value, fields[path].kind, path, str(file)) for path, value in flat.items()}
    return _build(settings_class, flat, (), str(file))


def path_names(settings_class: type) -> tuple[str, ...]:
    """The settings that name files and folders, in order, with dots: `tls.certificate`."""
    return tuple(".".join(path) for path, leaf in _leaves(settings_class, ()) if leaf.kind is Path)


def host_chosen_names(settings_class: type) -> tuple[str, ...]:
    """The settings that are marked `host_chosen`, as `path_names` names them."""
    return tuple(".".join(path) for path, leaf in _leaves(settings_class, ()) if leaf.host_chosen)


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InvalidRequest(f"{what} {error}", reason=REASON) from error


_Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Leaf:
    """One setting: its type without None, and whether the host may choose it."""

    kind: Any
    host_chosen: bool


def _leaves(settings_class: type, at: _Path) -> Iterator[tuple[_Path, _Leaf]]:
    hints = typing.get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        kind, _ = _without_none(hints[field.name])
        path = (*at, field.name)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _leaves(kind, path)
        else:
            yield path, _Leaf(kind, bool(field.metadata.get(_HOST_CHOSEN)))


def _without_none(kind: Any) -> tuple[Any, bool]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kept = [part for part in typing.get_args(kind) if part is not type(None)]
        if len(kept) == 1:
            return kept[0], True
    return kind, False


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise settings_error(str(file), f"cannot be read: {error.strerror}") from error


def _toml(raw: bytes, file: Path) -> dict[str, Any]:
    if len(raw) > _MAX_FILE_BYTES:
        raise settings_error(str(file), "larger than a settings file can be")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise settings_error(str(file), f"not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise settings_error(str(file), f"not TOML: {error}") from error
    except RecursionError as error:
        raise settings_error(str(file), "nested too deeply") from error


def _written(settings_class: type, written: Mapping[str, Any], source: str, folder: Path) -> dict[_Path, Any]:
    """What a file says, by the path of each setting; paths to files count from its folder."""
    _check_keys(written, settings_class, (), source)
    fields = dict(_leaves(settings_class, ()))
    return {path: _resolved(value, fields[path], folder) for path, value in _flatten(written, fields)}


def _check_keys(table: Mapping[str, Any], settings_class: type, at: _Path, source: str) -> None:
    hints = typing.get_type_hints(settings_class)
    known = [field.name for field in dataclasses.fields(settings_class)]
    for key, value in table.items():
        path = ".".join((*at, key))
        if key not in known:
            raise settings_error(source, f"unknown key {_shown(path)}{_near(key, known)}")
        kind, _ = _without_none(hints[key])
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            if not isinstance(value, dict):
                raise settings_error(source, f"{path} must be a table, and is {values.named(value)}")
            _check_keys(value, kind, (*at, key), source)


def _flatten(table: Mapping[str, Any], fields: Mapping[_Path, _Leaf], at: _Path = ()) -> Iterator[Any]:
    for key, value in table.items():
        path = (*at, key)
        if path in fields:
            yield path, value
        else:
            yield from _flatten(value, fields, path)


def _from_environment(
    fields: Mapping[_Path, _Leaf], environ: Mapping[str, str], prefix: str, *, in_enclave: bool
) -> Iterator[tuple[_Path, str, str]]:
    single = [path for path, leaf in fields.items() if _entry_class(leaf.kind) is None]
    variables = {prefix + "_".join(path).upper(): path for path in single}
    for variable in sorted(environ):
        if not variable.startswith(prefix):
            continue
        if variable not in variables:
            raise settings_error("environment", f"unknown variable {_shown(variable)}{_near(variable, variables)}")
        path = variables[variable]
        if in_enclave and not fields[path].host_chosen:
            raise settings_error("environment", f"{variable} may not be set from outside the enclave")
        yield path, variable, environ[variable]


def _structured(value: Any, kind: Any, path: _Path, source: str) -> Any:
    """A setting as its own type; raises InvalidRequest that names it."""
    entry_class = _entry_class(kind)
    if entry_class is None:
        with _blaming(f"{source}: {'.'.join(path)}"):
            return values.structured(value, kind)
    if not isinstance(value, dict):
        raise settings_error(source, f"{'.'.join(path)} must be a table, and is {values.named(value)}")
    return {name: _entry(table, entry_class, (*path, name), source) for name, table in value.items()}


def _entry(table: Any, entry_class: type, at: _Path, source: str) -> Any:
    """One of a setting's named tables."""
    if not isinstance(table, dict):
        raise settings_error(source, f"{_shown('.'.join(at))} must be a table, and is {values.named(table)}")
    _check_keys(table, entry_class, at, source)
    fields = dict(_leaves(entry_class, at))
    given = dict(_flatten(table, fields, at))
    flat = {path: _structured(value, fields[path].kind, path, source) for path, value in given.items()}
    return _build(entry_class, flat, at, source)


def _entry_class(kind: Any) -> type | None:
    """The settings class of each of a setting's named tables; None for any other setting."""
    if typing.get_origin(kind) is not Mapping:
        return None
    entry: type = typing.get_args(kind)[1]
    return entry


def _resolved(value: Any, leaf: _Leaf, folder: Path) -> Any:
    return str(folder / value) if leaf.kind is Path and isinstance(value, str) and value else value


def _build(settings_class: type[S], flat: Mapping[_Path, Any], at: _Path, source: str) -> S:
    hints = typing.get_type_hints(settings_class)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(settings_class):  # type: ignore[arg-type]  # S is a dataclass, which TypeVar cannot say
        path = (*at, field.name)
        kind, optional = _without_none(hints[field.name])
        given = [inner for inner in flat if inner[: len(path)] == path]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            if given or not (optional or _has_default(field)):
                arguments[field.name] = _build(kind, flat, path, source)
        elif path in flat:
            arguments[field.name] = flat[path]
        elif not _has_default(field):
            raise settings_error(source, f"{'.'.join(path)} is missing")
    try:
        return settings_class(**arguments)
    except (ValueError, CloisterError) as error:
        raise settings_error(source, str(error)) from error


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _near(key: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _shown(key: str) -> str:
    return ascii(key)[:80]
