"""Cloister: encrypted AI models, served inside Intel SGX enclaves to clients that verify them first.

`cloister.Client` and `cloister.SyncClient` are the SDK. They load on first use: whatever imports a lower floor of this
package, an enclave above all, imports neither of them. `__init__.pyi` gives type checkers what is found here by name.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in ("Client", "SyncClient"):
        return getattr(import_module("cloister.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
