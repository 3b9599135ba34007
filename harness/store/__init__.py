"""The event store: the append-only logs of all jobs in a database."""

from harness.store.sql import open_store

__all__ = ["open_store"]
