"""A program of its own: ``python3 -m program [NAME ...]``; stdlib, torch and trl's libraries."""
