"""The commands of ``stageroute``, a module per family; ``stageroute_router.cli`` puts them together."""
