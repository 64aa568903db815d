"""A simulated platform in a folder, so that a verifier, workers and clients can be given the same one.

```
DIR/root.der             the trust anchor: what a verifier and clients are given
DIR/collateral.json      QuoteCollateralV3, re-issued by `cloister-simulator collateral`
DIR/collateral-tdx.json  the same for trust domains
DIR/platform.json        which processor this is
DIR/keys/ROLE.pem        private keys, 0600: whoever reads them can quote anything
```
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import fields
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cloister.errors import AlreadyExists, InvalidRequest, NotFound
from cloister_simulator.certificates import PlatformKeys
from cloister_simulator.platform import Platform, fresh_window

ROOT, COLLATERAL, PROCESSOR, KEYS = "root.der", "collateral.json", "platform.json", "keys"
TDX_COLLATERAL = "collateral-tdx.json"


def create(folder: Path, now: datetime) -> Platform:
    """Make a new platform and write it to `folder`, collateral included.

    Raises:
        AlreadyExists: `folder` holds a platform already; nothing was touched.
    """
    if (folder / ROOT).exists() or (folder / KEYS).exists():
        raise AlreadyExists(f"{folder} already holds a simulated platform")
    platform = Platform.generate(now)
    (folder / KEYS).mkdir(mode=0o700, parents=True)
    for field in fields(PlatformKeys):
        _write_private(folder / KEYS / f"{field.name}.pem", _pem(getattr(platform.keys, field.name)))
    processor = {"ppid": platform.ppid.hex(), "platform_instance_id": platform.platform_instance_id.hex()}
    (folder / PROCESSOR).write_text(json.dumps(processor, indent=2) + "\n")
    (folder / ROOT).write_bytes(platform.root_der())
    write_collateral(folder, platform)
    return platform


def load(folder: Path, now: datetime) -> Platform:
    """Read a platform from `folder`; its collateral, if it is asked for, is dated for `now`.

    Raises:
        NotFound: There is no platform in `folder`.
        InvalidRequest: It is not one this simulator wrote, or others may read its keys.
    """
    if not (folder / ROOT).is_file():
        raise NotFound(f"{folder} holds no simulated platform; make one with: cloister-simulator init {folder}")
    try:
        processor = json.loads((folder / PROCESSOR).read_bytes())
        platform = Platform(
            window=fresh_window(now),
            ppid=bytes.fromhex(processor["ppid"]),
            platform_instance_id=bytes.fromhex(processor["platform_instance_id"]),
            keys=PlatformKeys(
                **{each.name: _read_key(folder / KEYS / f"{each.name}.pem") for each in fields(PlatformKeys)}
            ),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{folder} is not a whole simulated platform: {error}") from error
    if platform.root_der() != (folder / ROOT).read_bytes():
        raise InvalidRequest(f"{folder / ROOT} does not belong to the keys beside it; make a new platform")
    return platform


def write_collateral(folder: Path, platform: Platform) -> None:
    """Write the platform's collateral, each file in one step, so that whoever watches one never reads half of it."""
    for name, content in ((COLLATERAL, platform.collateral()), (TDX_COLLATERAL, platform.collateral(tdx=True))):
        part = folder / f"{name}.part"
        part.write_bytes(content)
        part.replace(folder / name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise InvalidRequest(f"{path} can be read by others; make it 0600")
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidRequest(f"{path} is not an elliptic curve key")
    return key
