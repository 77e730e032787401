"""Draws the pictures, in a process of its own that has no numpy and no web framework."""
