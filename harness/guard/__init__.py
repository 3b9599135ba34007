"""The one door to the destruction of an instance."""
