"""A client of Intel's Provisioning Certification Service (PCS, version 4) and of caches that speak like it (PCCS).

Bytes in, bytes out: collateral is fetched and put together here, and believed nowhere here. Who verifies it is
`cloister.appraisal`.
"""

from cloister.pcs.client import PcsClient
from cloister.pcs.download import Limits
from cloister.pcs.source import INTEL_PCS, Source, Wanted

__all__ = ["INTEL_PCS", "Limits", "PcsClient", "Source", "Wanted"]
