"""How well the router learns, on recorded outcomes."""
