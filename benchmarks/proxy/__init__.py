"""The router inside LiteLLM's proxy, under load."""
