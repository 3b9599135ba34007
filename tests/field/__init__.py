"""Cases of the field: what people's own files, logs and commands showed, one table a kind, each with its source."""
