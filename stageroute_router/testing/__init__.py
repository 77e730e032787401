"""Public fakes and contracts for testing with and against stageroute_router."""
