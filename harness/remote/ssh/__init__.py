"""The connection: login, pinned host keys, one command on one channel."""
