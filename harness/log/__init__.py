"""The training log: its grammar, and what a whole log amounts to."""
