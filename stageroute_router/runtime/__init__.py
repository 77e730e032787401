"""Joins groups, store, clock and threads."""
