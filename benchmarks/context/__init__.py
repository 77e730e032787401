"""Other ways to route by the prompt, in the engine that routes by segments: comparisons, no part of the product."""
