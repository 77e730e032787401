"""StageRoute inside LiteLLM's proxy: one line in its configuration, and every client is routed."""
