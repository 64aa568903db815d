"""What services share: settings, logs, the life of a process, the server, the record."""
