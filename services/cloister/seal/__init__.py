"""What is sealed, and how it is opened: keys, models, grants, sessions, receipts. Bytes in, values out; no I/O."""
