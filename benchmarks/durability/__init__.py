"""What a durable reward costs, and what survives outages."""
