"""The seam to LiteLLM: the only package that knows it."""
