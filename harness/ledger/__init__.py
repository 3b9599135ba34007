"""The ledger: what happened to every job, as append-only event logs, and what follows from it."""
