"""What the tests of the store share."""

from __future__ import annotations

import pytest

# So that a failing assertion of the public contract shows its values here too.
pytest.register_assert_rewrite("stageroute_router.testing.store_contract")
