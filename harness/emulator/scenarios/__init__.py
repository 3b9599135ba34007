"""What happened to somebody, as data: one TOML file a story."""
