"""Beliefs about a provider, tried on the live service by one run that rents a box and destroys it."""
