"""Foundations: errors, identifiers, time, durable writing, and the ports to the world."""
