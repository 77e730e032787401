"""What an application holds: the router, and ``router.stageroute``."""
