"""Run recorded outcomes through the same engine that routes live calls."""
