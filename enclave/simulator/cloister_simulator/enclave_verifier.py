"""The verifier of a simulated mesh, inside an enclave: `python -m cloister_simulator.enclave_verifier`.

`cloister-verifier` refuses every root but Intel's, wherever it runs. This is the same service under the root that its
settings name, and has nothing else of a simulated platform: its own quotes come from the enclave's attestation files,
and no key of the platform is in here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cloister.kit.lifecycle import Lifecycle, begin, run_service
from cloister.kit.log import get_logger

if TYPE_CHECKING:
    from cloister.verifier.settings import Settings

_log = get_logger()


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    begin("verifier")
    from cloister.evidence.gramine import GramineQuoter
    from cloister.verifier.app import serve
    from cloister.verifier.settings import Settings

    async def simulated(settings: Settings, lifecycle: Lifecycle) -> None:
        _log.warning("verifier.simulated", meaning="evidence is worth nothing against the owner of this machine")
        await serve(settings, lifecycle, GramineQuoter())

    return run_service("verifier", simulated, Settings)


if __name__ == "__main__":
    sys.exit(main())
