"""The Verifier: evidence in, Attestation Results and mesh identities out."""
