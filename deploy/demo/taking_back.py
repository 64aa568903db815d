"""The model owner takes the model back in the middle of it all, and gives it again."""

from __future__ import annotations

import json
import time
from pathlib import Path

from stage import cloister, serving, step, wait_for


def take_back_and_give_again(mesh: Path, model: str, folder: Path) -> None:
    """Withdraw it, see it gone from every worker, lift that by a signed order, see it served."""
    began = time.monotonic()
    cloister("revoke", "model", model, "--reason", "trained on the wrong data", "--mesh", mesh)
    wait_for(lambda: _gone(mesh), "the workers to drop the model")
    step("model owner", f"withdrew {model}: {time.monotonic() - began:.1f} s later no worker had key or model")
    key, order = mesh / "identities" / "owner" / "main" / "signing_key.pem", folder / "order.json"
    cloister("revoke", "order", "model", model, "--sign", key, "--out", order, "--mesh", mesh)
    began = time.monotonic()
    cloister("revoke", "lift", "model", model, "--reason", "false alarm", "--order", order, "--mesh", mesh)
    wait_for(lambda: serving(mesh, f"{model}@1"), "the workers to serve the model again")
    step("model owner", f"lifted that by a signed order: served again after {time.monotonic() - began:.1f} s")


def _gone(mesh: Path) -> bool:
    status = json.loads(cloister("status", mesh, "--json"))
    return not any(worker["models"] for worker in status["workers"])
