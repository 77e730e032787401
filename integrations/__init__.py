"""Adapters that let an existing application adopt ``stageroute_router`` without touching its code."""
