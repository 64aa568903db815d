"""How two processes talk: identities, channels, statuses."""
