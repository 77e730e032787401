"""Versions of groups, lost decisions, and folding old rows away.

Only additions, with defaults: workers of the first release may go on writing meanwhile.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add columns to groups and decisions, and the tables of folded sums and of upkeep."""
    op.add_column(
        "stageroute_groups", sa.Column("version", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column("stageroute_decisions", sa.Column("lost_at", sa.Double, nullable=True))
    op.create_index("stageroute_decisions_made", "stageroute_decisions", ["made_at"])
    op.create_index(
        "stageroute_decisions_open",
        "stageroute_decisions",
        ["made_at"],
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "stageroute_folded",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("segment", sa.Text, primary_key=True),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("pulls", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("reward_count", sa.BigInteger, nullable=False),
        sa.Column("reward_sum", sa.Double, nullable=False),
        sa.Column("reward_sumsq", sa.Double, nullable=False),
        sa.Column("cost_count", sa.BigInteger, nullable=False),
        sa.Column("cost_sum", sa.Double, nullable=False),
        sa.Column("cost_sumsq", sa.Double, nullable=False),
        sa.Column("spend_usd", sa.Double, nullable=False),
        sa.Column("token_calls", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    )
    upkeep = op.create_table(
        "stageroute_upkeep",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("folded_up_to", sa.Double, nullable=True),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.CheckConstraint("id = 1", name="stageroute_upkeep_one_row"),
    )
    op.bulk_insert(upkeep, [{"id": 1, "folded_up_to": None, "last_at": 0.0}])
