"""What the statuses in which Intel sums up a platform's patch level mean, for somebody who has to act on one."""

from __future__ import annotations

from typing import Final

_WORDS: Final = {
    "UpToDate": "every fix that Intel asks for is in place",
    "SWHardeningNeeded": "fixes are in place; code inside the enclave must itself avoid what the advisories describe",
    "ConfigurationNeeded": "fixes are in place, but settings of the machine (often hyper-threading) leave it open",
    "ConfigurationAndSWHardeningNeeded": "settings of the machine leave it open, and code must harden itself as well",
    "OutOfDate": "microcode or firmware is too old: known attacks work",
    "OutOfDateConfigurationNeeded": "microcode or firmware is too old, and settings leave the machine open as well",
    "TDRelaunchAdvised": "the machine is patched, but the trust domain began before that: start it again",
    "TDRelaunchAdvisedConfigurationNeeded": "start the trust domain again, and mend the machine's settings",
    "Revoked": "Intel has withdrawn its trust from it",
}


def status_meaning(status: str) -> str:
    """What a TCB status means, in a few words; nothing for one that Intel does not give."""
    return _WORDS.get(status, "")
