"""The `cloister` command: found a mesh, run it on this machine, own models, ask them, check what was proved."""
