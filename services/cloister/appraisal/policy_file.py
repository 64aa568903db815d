"""The appraisal policy as a TOML file.

    policy_id = "production"
    accepted_statuses = ["UpToDate", "SWHardeningNeeded"]
    accepted_advisories = ["INTEL-SA-00334", "INTEL-SA-00615"]
    minimum_evaluation = 17

    [[reference_values]]
    mrenclave = "<64 hexadecimal digits>"

    [platforms]
    mode = "enforce"
    allow = ["<32 hexadecimal digits: a PPID or a platform instance id>"]

Only `policy_id` is required. Keys that are not known, values of another type or form, and values left empty are errors
that name the key, so that a mistyped restriction cannot silently be no restriction. The one empty list that means
something is `platforms.allow` when it is enforced: no platform at all.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final, TypedDict

from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.reference import Kss, PlatformMode, PlatformRule, ReferenceValue
from cloister.errors import InvalidRequest

MAX_POLICY_BYTES: Final = 1024 * 1024

_POLICY_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ADVISORY: Final = re.compile(r"[A-Z]+(?:-[A-Z0-9]+)+")


class PolicyMembers(TypedDict, total=False):
    """Arguments of `policy.Policy` that a file gives."""

    policy_id: str
    accepted_statuses: frozenset[TcbStatus]
    accepted_advisories: frozenset[str]
    minimum_evaluation: int
    allow_zero_padding: bool
    reference_values: tuple[ReferenceValue, ...]
    platforms: PlatformRule


class _Table:
    """A TOML table whose keys are taken out one by one, so that what is left over is what nobody knows."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict) or not value:
            raise _wrong(path or "the policy", "a table with something in it")
        self._left: dict[str, object] = dict(value)
        self._path = path

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str) -> object:
        return self._left.pop(key, None)

    def name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def integer(self, key: str, most: int) -> int:
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise _wrong(self.name(key), f"an integer from 0 to {most}")
        return value

    def octets(self, key: str, length: int) -> bytes:
        return _octets(self.take(key), self.name(key), length)

    def strings(self, key: str, *, least: int = 1) -> list[str]:
        value = self.take(key)
        if not isinstance(value, list) or len(value) < least or not all(isinstance(item, str) for item in value):
            raise _wrong(self.name(key), "a list of strings that is not empty")
        return value

    def finish(self) -> None:
        for key in sorted(self._left):
            raise _wrong(self.name(key[:64]), "a key of an appraisal policy")


def read_policy(raw: bytes) -> PolicyMembers:
    """Read a policy file.

    Raises:
        InvalidRequest: Reason `policy.malformed`; the message names the key.
    """
    if len(raw) > MAX_POLICY_BYTES:
        raise _wrong("the policy", "shorter than 1 MiB")
    try:
        table = _Table(tomllib.loads(raw.decode("utf-8")), "")
    except ValueError as error:
        raise InvalidRequest("the policy is not TOML", reason="policy.malformed") from error
    members = _members(table)
    table.finish()
    return members


def _members(table: _Table) -> PolicyMembers:
    policy_id = table.take("policy_id")
    if not isinstance(policy_id, str) or not _POLICY_ID.fullmatch(policy_id):
        raise _wrong("policy_id", "a name of lower-case letters, digits and ._-")
    members = PolicyMembers(policy_id=policy_id)
    if "accepted_statuses" in table:
        members["accepted_statuses"] = _statuses(table)
    if "accepted_advisories" in table:
        members["accepted_advisories"] = _advisories(table)
    if "minimum_evaluation" in table:
        members["minimum_evaluation"] = table.integer("minimum_evaluation", 0xFFFFFFFF)
    if "allow_zero_padding" in table:
        members["allow_zero_padding"] = _boolean(table, "allow_zero_padding")
    if "reference_values" in table:
        members["reference_values"] = _reference_values(table)
    if "platforms" in table:
        members["platforms"] = _platforms(_Table(table.take("platforms"), "platforms"))
    return members


def _statuses(table: _Table) -> frozenset[TcbStatus]:
    known = {status.value for status in TcbStatus} - {TcbStatus.REVOKED.value}
    statuses = table.strings("accepted_statuses")
    if not known.issuperset(statuses):
        raise _wrong("accepted_statuses", "a list of TCB statuses other than Revoked")
    return frozenset(TcbStatus(status) for status in statuses)


def _advisories(table: _Table) -> frozenset[str]:
    advisories = table.strings("accepted_advisories")
    if not all(_ADVISORY.fullmatch(advisory) for advisory in advisories):
        raise _wrong("accepted_advisories", "a list of advisory ids such as INTEL-SA-00615")
    return frozenset(advisories)


def _boolean(table: _Table, key: str) -> bool:
    value = table.take(key)
    if not isinstance(value, bool):
        raise _wrong(table.name(key), "true or false")
    return value


def _reference_values(table: _Table) -> tuple[ReferenceValue, ...]:
    rows = table.take("reference_values")
    if not isinstance(rows, list) or not rows:
        raise _wrong("reference_values", "an array of tables that is not empty")
    return tuple(_reference_value(_Table(row, f"reference_values[{n}]")) for n, row in enumerate(rows))


def _reference_value(row: _Table) -> ReferenceValue:
    nothing = Kss()
    value = ReferenceValue(
        mrenclave=row.octets("mrenclave", 32) if "mrenclave" in row else None,
        mrsigner=row.octets("mrsigner", 32) if "mrsigner" in row else None,
        isvprodid=row.integer("isvprodid", 0xFFFF) if "isvprodid" in row else None,
        minimum_isvsvn=row.integer("minimum_isvsvn", 0xFFFF) if "minimum_isvsvn" in row else None,
        kss=Kss(
            config_id=row.octets("config_id", 64) if "config_id" in row else nothing.config_id,
            config_svn=row.integer("config_svn", 0xFFFF) if "config_svn" in row else nothing.config_svn,
            ext_prod_id=row.octets("ext_prod_id", 16) if "ext_prod_id" in row else nothing.ext_prod_id,
            family_id=row.octets("family_id", 16) if "family_id" in row else nothing.family_id,
        ),
    )
    row.finish()
    return value


def _platforms(table: _Table) -> PlatformRule:
    mode = table.take("mode")
    if not isinstance(mode, str) or mode not in list(PlatformMode):
        raise _wrong("platforms.mode", "off or enforce")
    if "allow" in table and mode != PlatformMode.ENFORCE:
        raise _wrong("platforms.allow", "of any effect unless platforms.mode is enforce")
    rule = PlatformRule(
        mode=PlatformMode(mode),
        allow=_platform_ids(table, "allow", least=0) if "allow" in table else frozenset(),
        deny=_platform_ids(table, "deny", least=1) if "deny" in table else frozenset(),
    )
    table.finish()
    return rule


def _platform_ids(table: _Table, key: str, *, least: int) -> frozenset[bytes]:
    return frozenset(_octets(text, table.name(key), 16) for text in table.strings(key, least=least))


def _octets(value: object, name: str, length: int) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * length}}}", value):
        raise _wrong(name, f"{2 * length} hexadecimal digits")
    return bytes.fromhex(value)


def _wrong(name: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"appraisal policy: {name} is not {wanted}", reason="policy.malformed")
