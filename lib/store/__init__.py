"""Stores the grid as data, the records, and the kept weights. Nothing in this folder trains or attacks."""
