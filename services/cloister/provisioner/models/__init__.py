"""What is kept for owners: versions of models, policies, keys of jobs; their rules, and each secret by itself."""
