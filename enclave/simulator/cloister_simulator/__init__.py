"""A software quoting enclave: evidence in Intel's grammar, signed under a root that is not Intel's.

It exists so that the whole mesh can run, and be attacked in tests, on machines without SGX. What it signs is worth
nothing against the owner of the machine, because the owner holds every key. A Verifier believes it only where it was
given this platform's own root as trust anchor, and marks what it then issues as simulated.

`cloister` never imports this package, and production images do not contain it.
"""
