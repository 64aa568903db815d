"""What is in an image, as CycloneDX: Debian's packages, wheels, and of an enclave what was measured.

    python deploy/images/sbom.py ROOT NAME REVISION DIGEST

ROOT is where the image is mounted. The same image gives the same bytes: the time is the commit's, and the serial number
a digest of the image's.
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from cloister.enclave.measurement import NAME, Measurement
from cloister.enclave.tcb import read_lock

_DEBIAN = "bookworm"
_INSIDE = "cloister:enclave"
"""Property of what is in the enclave, so in memory that its host does not see."""


def described(root: Path, name: str, revision: str, digest: str) -> Bom:
    """The bill of materials of an image.

    Args:
        root: Where it is mounted.
        name: Of the image.
        revision: Commit that it was built from.
        digest: Of the image, as `sha256:<hex>`.
    """
    image = Component(
        name=name,
        version=revision,
        type=ComponentType.CONTAINER,
        purl=PackageURL("oci", None, name, digest),
        bom_ref=digest,
    )
    built = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    bom = Bom(
        metadata=BomMetaData(component=image, timestamp=built),
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest),
        components=[*_packages(root), *_wheels(root), *_enclave(root)],
    )
    bom.register_dependency(image, bom.components)
    return bom


def _packages(root: Path) -> Iterator[Component]:
    """What dpkg has installed."""
    for stanza in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        found = dict(re.findall(r"^(Package|Version|Architecture|Status): (.+)$", stanza, re.MULTILINE))
        if found.get("Status", "").endswith(" installed"):
            yield _debian(found["Package"], found["Version"], {"arch": found["Architecture"], "distro": _DEBIAN})


def _wheels(root: Path) -> Iterator[Component]:
    """What is in the environment of the service, with the licences that it states."""
    folders = [str(path) for path in root.glob("opt/cloister/lib/python3*/site-packages")]
    for found in metadata.distributions(path=folders):
        said = found.metadata.get("License-Expression") or ""
        yield Component(
            name=found.name,
            version=found.version,
            type=ComponentType.LIBRARY,
            purl=_wheel(found.name, found.version),
            bom_ref=f"{found.name}@{found.version}",
            licenses=[LicenseFactory().make_from_string(said)] if said else (),
        )


def _enclave(root: Path) -> Iterator[Component]:
    """The enclave by its measurement; what it carries, as tcb.lock names it; and Gramine."""
    if not (root / "enclave" / NAME).is_file():
        return
    measured = Measurement.read(root / "enclave")
    yield Component(
        name=f"cloister-enclave-{measured.kind.name}",
        version=str(measured.isvsvn),
        type=ComponentType.APPLICATION,
        bom_ref=measured.mrenclave,
        properties=[
            Property(name=f"{_INSIDE}:{key}", value=str(value)) for key, value in measured.identity().items() if value
        ],
        components=list(_carried(measured)),
    )
    yield Component(
        name="gramine",
        version=measured.gramine,
        type=ComponentType.LIBRARY,
        bom_ref=f"gramine@{measured.gramine}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=measured.loader.sha256)],
    )


def _carried(measured: Measurement) -> Iterable[Component]:
    parts = {part.name: part for part, _ in read_lock().files_of(measured.kind)}
    for part in parts.values():
        if part.origin == "wheel":
            yield Component(
                name=part.name,
                version=part.version,
                type=ComponentType.LIBRARY,
                purl=_wheel(part.name, part.version),
                bom_ref=f"enclave:{part.name}@{part.version}",
            )
        else:
            yield _debian(part.name, part.version, {"distro": _DEBIAN}, within="enclave:")


def _debian(name: str, version: str, qualifiers: dict[str, str], within: str = "") -> Component:
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=PackageURL("deb", "debian", name, version, qualifiers),
        bom_ref=f"{within}deb:{name}@{version}",
    )


def _wheel(name: str, version: str) -> PackageURL:
    return PackageURL("pypi", None, re.sub(r"[-_.]+", "-", name).lower(), version)


def main() -> None:
    """Print the bill of the image that the words of the command name."""
    root, name, revision, digest = sys.argv[1:]
    sys.stdout.write(JsonV1Dot6(described(Path(root), name, revision, digest)).output_as_string(indent=1) + "\n")


if __name__ == "__main__":
    main()
