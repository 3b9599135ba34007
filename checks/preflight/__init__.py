"""Preflight: on the operator's machine, before a cent is spent."""
