"""A client of Intel's Provisioning Certification Service (PCS, version 4) and of caches that speak like it (PCCS).

Bytes in, bytes out: collateral is fetched and put together here, and believed nowhere here. Who verifies it is
`cloister.appraisal`. `client.PcsClient` does it; where and for what is said with the names here.
"""

from cloister.pcs.source import INTEL_PCS, Source, Wanted

__all__ = ["INTEL_PCS", "Source", "Wanted"]
