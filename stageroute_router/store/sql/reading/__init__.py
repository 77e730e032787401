"""Rows in: what a batch needs of the tables, and what a restarted process needs."""
