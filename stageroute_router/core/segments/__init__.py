"""How a prompt becomes a segment."""
