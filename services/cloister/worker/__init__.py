"""The Attester that infers: what runs inside the enclave, and nothing that need not."""
