"""The linter of manifests: what Gramine would run, held against rules with stable ids, before anybody signs it.

It needs no Gramine and changes nothing. A manifest of ours and a stranger's are held to the same rules, but for those
that ask which of our sets and kinds it is of. Files are looked at where they lie beside the manifest; where they do
not, their names have to do. `cloister enclave lint --rules` and docs/guides/manifest-rules.md list the rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cloister.enclave import rules_files, rules_host, rules_identity, rules_image, rules_mounts, rules_options
from cloister.enclave.manifest_view import ManifestView, manifests_in, read_manifest
from cloister.enclave.rule import Finding, Objection, Rule
from cloister.errors import InvalidRequest

RULES: Final[Sequence[Rule]] = (
    *rules_identity.RULES,
    *rules_host.RULES,
    *rules_files.RULES,
    *rules_mounts.RULES,
    *rules_options.RULES,
    *rules_image.RULES,
)
SHOWN: Final = 5
"""Findings of one rule in one manifest that are told one by one."""


def lint(place: Path) -> dict[Path, list[Finding]]:
    """What is wrong with a manifest, or with each manifest in a folder; an empty list where nothing is.

    Raises:
        InvalidRequest: There is no manifest, or one that cannot be read (`manifest.invalid`).
    """
    return {file: findings(read_manifest(file)) for file in manifests_in(place)}


def findings(manifest: ManifestView) -> list[Finding]:
    """What is wrong with a manifest, in the order of the rules; of one rule the first few, and how many more."""
    return [finding for rule in RULES for finding in _findings(rule, manifest)]


def check(place: Path) -> None:
    """Refuse a manifest, or a folder of them, with findings.

    Raises:
        InvalidRequest: As `lint` does; or for the first finding (`manifest.refused`).
    """
    for file, found in lint(place).items():
        if found:
            first, more = found[0], f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise InvalidRequest(
                f"{file.name}: {first.rule}: {first.key} {first.problem}{more}; 'cloister enclave lint' says more",
                reason="manifest.refused",
            )


def _findings(rule: Rule, manifest: ManifestView) -> Iterator[Finding]:
    objections = iter(rule.check(manifest))
    for objection in itertools.islice(objections, SHOWN):
        yield Finding.of(rule, objection)
    rest = list(objections)
    if rest:
        yield Finding.of(rule, Objection(rest[0].key, f"and {len(rest) - 1} others are alike"))
