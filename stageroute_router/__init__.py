"""Route LiteLLM calls among the few models you can keep live, under a budget, and learn from rewards."""
