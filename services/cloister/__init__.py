"""Cloister serves encrypted AI models inside Intel SGX enclaves."""

__version__ = "0.1.0"
