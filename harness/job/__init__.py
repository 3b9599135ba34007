"""The job file: what to train, where, and what must be true before each step."""
