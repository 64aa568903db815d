"""Enclaves from what is installed here: collected, configured, rendered, linted, measured, signed, run by Gramine.

Everything that one enclave is made of lies in one folder, and every path in its manifest is relative to that folder, so
that the same inputs give the same MRENCLAVE wherever the folder is:

    <kind>.manifest          what `gramine-direct` starts; <kind>.manifest.sgx and <kind>.sig for SGX, once signed
    measurement.json         what was measured: identity of the enclave, and each file with its digest (`measurement`)
    root/                    the program: a Python prefix pruned to tcb.lock, or redis-server (`image`)
    gramine/                 Gramine's own runtime, copied from where it is installed
    mesh/                    the measured part of the mesh: settings, trust roots, policies (`configuration`)
    host/                    links to what the host keeps and may change: identities, sealed models, encrypted state

Nothing here runs inside an enclave.
"""
