"""The model owner takes the model back in the middle of it all, and gives it again."""

from __future__ import annotations

import json
import time
from pathlib import Path

from stage import cloister, step, wait_for


def take_back_and_give_again(mesh: Path, model: str, folder: Path) -> None:
    """Withdraw it, see it gone from every worker, and lift that by a signed order."""
    began = time.monotonic()
    cloister("revoke", "model", model, "--reason", "trained on the wrong data", "--mesh", mesh)
    wait_for(lambda: _gone(mesh), "the workers to drop the model")
    step("model owner", f"withdrew {model}: {time.monotonic() - began:.1f} s later no worker had it")
    key, order = mesh / "identities" / "owner" / "main" / "signing_key.pem", folder / "order.json"
    cloister("revoke", "order", "model", model, "--sign", key, "--out", order, "--mesh", mesh)
    cloister("revoke", "lift", "model", model, "--reason", "false alarm", "--order", order, "--mesh", mesh)
    step("model owner", "signed an order that lifts this: workers that wait for the key have it again within seconds")


def _gone(mesh: Path) -> bool:
    status = json.loads(cloister("status", mesh, "--json"))
    return not any(worker["models"] for worker in status["workers"])
