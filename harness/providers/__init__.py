"""Who rents machines out: the only place that talks to Vast.ai, and imports its client lazily."""
