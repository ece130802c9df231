"""okod, from start to end."""
