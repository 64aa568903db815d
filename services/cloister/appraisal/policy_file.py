"""The appraisal policy as a TOML file.

    policy_id = "production"
    version = 7
    accepted_statuses = ["UpToDate", "SWHardeningNeeded"]
    accepted_advisories = ["INTEL-SA-00334", "INTEL-SA-00615"]
    minimum_evaluation = 17
    minimum_tcb_date = 2023-08-09

    [grace_days]
    OutOfDate = 90

    [[reference_values]]
    mrenclave = "<64 hexadecimal digits>"

    [platforms]
    mode = "enforce"
    allow = ["<32 hexadecimal digits: a PPID or a platform instance id>"]

Only `policy_id` is required, and `version` of a policy that is signed or applied. docs/guides/appraisal-policy.md has
every key. Keys that are not known, values of another type or form, and values left empty are errors that name the key.
The one empty list that means something is `platforms.allow` when it is enforced: no platform at all.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date
from typing import Final, TypedDict

from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.grace import LATE, MAX_GRACE_DAYS, Grace
from cloister.appraisal.reference import PlatformRule, ReferenceValue, TdReferenceValue
from cloister.appraisal.reference_file import read_platforms, read_reference_value, read_td_reference_value
from cloister.appraisal.toml_table import Table, wrong
from cloister.errors import InvalidRequest

MAX_POLICY_BYTES: Final = 512 * 1024
MAX_VERSION: Final = (1 << 53) - 1

_POLICY_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ADVISORY: Final = re.compile(r"[A-Z]+(?:-[A-Z0-9]+)+")


class PolicyMembers(TypedDict, total=False):
    """Arguments of `policy.Policy` that a file gives."""

    policy_id: str
    version: int
    accepted_statuses: frozenset[TcbStatus]
    grace: tuple[Grace, ...]
    accepted_advisories: frozenset[str]
    minimum_evaluation: int
    minimum_tcb_date: date
    allow_zero_padding: bool
    reference_values: tuple[ReferenceValue, ...]
    td_reference_values: tuple[TdReferenceValue, ...]
    platforms: PlatformRule


def read_policy(raw: bytes) -> PolicyMembers:
    """Read a policy file.

    Raises:
        InvalidRequest: Reason `policy.malformed`; the message names the key.
    """
    if len(raw) > MAX_POLICY_BYTES:
        raise wrong("the policy", "at most 512 KiB long")
    try:
        table = Table(tomllib.loads(raw.decode("utf-8")), "")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the policy is not TOML", reason="policy.malformed") from error
    members = _members(table)
    table.finish()
    return members


def _members(table: Table) -> PolicyMembers:
    policy_id = table.take("policy_id")
    if not isinstance(policy_id, str) or not _POLICY_ID.fullmatch(policy_id):
        raise wrong("policy_id", "a name of lower-case letters, digits and ._-")
    members = PolicyMembers(policy_id=policy_id)
    if "version" in table:
        members["version"] = table.integer("version", MAX_VERSION, least=1)
    if "accepted_statuses" in table:
        members["accepted_statuses"] = _statuses(table)
    if "grace_days" in table:
        members["grace"] = _grace(Table(table.take("grace_days"), "grace_days"))
    if "accepted_advisories" in table:
        members["accepted_advisories"] = _advisories(table)
    if "minimum_evaluation" in table:
        members["minimum_evaluation"] = table.integer("minimum_evaluation", 0xFFFFFFFF)
    if "minimum_tcb_date" in table:
        members["minimum_tcb_date"] = table.day("minimum_tcb_date")
    if "allow_zero_padding" in table:
        members["allow_zero_padding"] = table.boolean("allow_zero_padding")
    if "reference_values" in table:
        members["reference_values"] = tuple(map(read_reference_value, table.tables("reference_values")))
    if "td_reference_values" in table:
        members["td_reference_values"] = tuple(map(read_td_reference_value, table.tables("td_reference_values")))
    if "platforms" in table:
        members["platforms"] = read_platforms(Table(table.take("platforms"), "platforms"))
    return members


def _statuses(table: Table) -> frozenset[TcbStatus]:
    known = {status.value for status in TcbStatus} - {TcbStatus.REVOKED.value}
    statuses = table.strings("accepted_statuses")
    if not known.issuperset(statuses):
        raise wrong("accepted_statuses", "a list of TCB statuses other than Revoked")
    return frozenset(TcbStatus(status) for status in statuses)


def _grace(table: Table) -> tuple[Grace, ...]:
    unknown = set(table.left()) - {status.value for status in LATE}
    if unknown:
        raise wrong(f"grace_days.{min(unknown)[:64]}", f"a status that grace is for: {', '.join(sorted(LATE))}")
    return tuple(
        Grace(status=TcbStatus(status), days=table.integer(status, MAX_GRACE_DAYS, least=1)) for status in table.left()
    )


def _advisories(table: Table) -> frozenset[str]:
    advisories = table.strings("accepted_advisories")
    if not all(_ADVISORY.fullmatch(advisory) for advisory in advisories):
        raise wrong("accepted_advisories", "a list of advisory ids such as INTEL-SA-00615")
    return frozenset(advisories)
