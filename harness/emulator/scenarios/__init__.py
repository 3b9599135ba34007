"""Scenarios: disasters that happened to somebody, one TOML file each."""
