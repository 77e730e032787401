"""How long a decision, a plan and a call take."""
