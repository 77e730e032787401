"""Makes calls in a process of its own, run by ``test_durability.py``: not a test itself.

Standard input has the router's arguments and how many calls to make; standard output tells of each call what
another process may know: its response id and a reward token.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from stageroute_router import StageRouteRouter


def main() -> None:
    """Make the calls, and end in the way that is asked for."""
    asked = json.load(sys.stdin)
    router = StageRouteRouter(**asked["router"])
    for _ in range(asked["calls"]):
        response = router.completion(model="chat", messages=[{"role": "user", "content": "hello"}])
        token = router.stageroute.reward_token(response, caller="alice")
        sys.stdout.write(json.dumps({"id": response.id, "token": token}) + "\n")
    sys.stdout.flush()
    # LiteLLM tells how a call ended some milliseconds later; a process that ended before is another test's.
    deadline = time.monotonic() + 20
    while router.stageroute.status("chat").open_calls and time.monotonic() < deadline:
        pass
    if asked["killed"]:
        os._exit(9)
    router.stageroute.close()


if __name__ == "__main__":
    main()
