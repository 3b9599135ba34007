"""Adapters of the marketplaces that rent machines out, one folder or module a provider, and the registry of kinds."""
