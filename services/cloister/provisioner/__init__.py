"""The key provisioner: a Relying Party that keeps model keys and releases one only where its policy allows."""
