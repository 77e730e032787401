"""What a terminal shows: tables and sentences from the values an operator may look at."""

from stageroute_router.terminal.formats import usd as usd
from stageroute_router.terminal.status import show_status as show_status
