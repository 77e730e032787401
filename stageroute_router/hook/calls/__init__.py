"""The trail of one call, from LiteLLM's request to its report."""
