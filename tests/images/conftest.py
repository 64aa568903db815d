"""Images, built for real, and run as containers: `make test-images`. Needs root, buildah, podman and runc."""

from __future__ import annotations

import os
import shutil

import pytest

from fakes.containers import KINDS, run


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """All images that can be built here."""
    missing = [tool for tool in ("buildah", "podman", "runc", "mmdebstrap") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"images are built as root, with buildah, podman, runc and mmdebstrap; missing: {missing}")
    run("sh", "deploy/images/build.sh", *KINDS)
