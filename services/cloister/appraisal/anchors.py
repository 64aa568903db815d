"""Trust anchors: the root certificates that everything in an appraisal leads back to.

Whether evidence is simulated is a property of the anchor and of nothing else: an anchor is simulated exactly when its
root certificate is not Intel's SGX root CA, which is pinned here byte for byte. No argument or setting says otherwise.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import Final

from cloister.appraisal import certs
from cloister.appraisal.certs import Certificate
from cloister.appraisal.steps import Step, rejected
from cloister.errors import EvidenceRejected, InvalidRequest

INTEL_SGX_NAME: Final = "intel-sgx"

# "Intel SGX Root CA", serial 22650cd65a9d3489f383b49552bf501b392706ac, valid to 2049-12-31; published by Intel at
# https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer
_INTEL_SGX_ROOT: Final = binascii.a2b_base64(
    "MIICjzCCAjSgAwIBAgIUImUM1lqdNInzg7SVUr9QGzknBqwwCgYIKoZIzj0EAwIwaDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAY"
    "BgNVBAoMEUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYTAlVTMB4XDTE4MDUy"
    "MTEwNDUxMFoXDTQ5MTIzMTIzNTk1OVowaDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0aW9u"
    "MRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYTAlVTMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDI"
    "YZOj/iPWsCzaEKi71OiOSLRFhWGjbnBVJfVnkY4u3IjkDYYL0MxO4mqsyYjlBalTVYxFP2sJBK5zlKOBuzCBuDAfBgNVHSMEGDAWgBQiZQzW"
    "Wp00ifODtJVSv1AbOScGrDBSBgNVHR8ESzBJMEegRaBDhkFodHRwczovL2NlcnRpZmljYXRlcy50cnVzdGVkc2VydmljZXMuaW50ZWwuY29t"
    "L0ludGVsU0dYUm9vdENBLmRlcjAdBgNVHQ4EFgQUImUM1lqdNInzg7SVUr9QGzknBqwwDgYDVR0PAQH/BAQDAgEGMBIGA1UdEwEB/wQIMAYB"
    "Af8CAQEwCgYIKoZIzj0EAwIDSQAwRgIhAOW/5QkR+S9CiSDcNoowLuPRLsWGf/Yi7GSX94BgwTwgAiEA4J0lrHoMs+Xo5o/sX6O9QWxHRAvZ"
    "UGOdRQ7cvqRXaqI="
)


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A root certificate and what we call it.

    Attributes:
        name: Appears in Attestation Results; `intel-sgx` is reserved for the anchor it names.
        root_der: The self-signed root certificate.
        root: The same, read.

    Raises:
        InvalidRequest: Not a self-signed SGX root certificate, or a name that is not its own.
    """

    name: str
    root_der: bytes = field(repr=False)
    root: Certificate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name or (self.name == INTEL_SGX_NAME and self.simulated):
            raise InvalidRequest("the trust anchor's name is empty, or is another's", reason="anchor.refused")
        try:
            root = certs.load(self.root_der)
            certs.check_constraints(root, certs.Role.ROOT)
            certs.check_issued(root, root, below=1)
        except EvidenceRejected as error:
            raise InvalidRequest(f"the trust anchor is not an SGX root: {error}", reason="anchor.refused") from error
        object.__setattr__(self, "root", root)

    def check_is_root(self, der: bytes) -> None:
        """Check that a certificate at the end of a chain stands for this anchor.

        An anchor is a name and a key (RFC 5280 section 6.1.1), and Intel has published its root in more than one
        certificate; so a certificate of the same name and key will do, and nothing else in it is believed.

        Raises:
            EvidenceRejected: Step 2.
        """
        if der == self.root_der:
            return
        root = certs.load(der)
        if (root.subject, root.issuer, root.spki) != (self.root.subject, self.root.subject, self.root.spki):
            raise rejected(Step.CHAIN, "anchor.untrusted", "a chain does not end at the trust anchor")

    @property
    def simulated(self) -> bool:
        """Whether evidence under this anchor says nothing about hardware."""
        return self.root_der != _INTEL_SGX_ROOT


INTEL_SGX: Final = TrustAnchor(INTEL_SGX_NAME, _INTEL_SGX_ROOT)
