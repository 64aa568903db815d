"""The OpenAPI document of what is here: `openapi.json` beside this file, with the version of this program."""

from __future__ import annotations

import json
from importlib.resources import files

from cloister import __version__


def openapi_document() -> bytes:
    """As it is served."""
    document = json.loads(files(__package__ or "").joinpath("openapi.json").read_bytes())
    document["info"]["version"] = __version__
    return json.dumps(document).encode()
