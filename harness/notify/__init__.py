"""Tells people who are elsewhere what happens to a job, and what bills and was forgotten."""
