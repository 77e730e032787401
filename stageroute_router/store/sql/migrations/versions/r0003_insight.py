"""Who made a call, what a decision was sampled from, what a window knew, how totals went, and what operators pinned.

Only additions, with defaults: workers of the release before may go on writing meanwhile.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add columns to decisions, pending rewards and stages, and the tables of mixes, history and pins."""
    op.add_column("stageroute_decisions", sa.Column("caller", sa.Text, nullable=True))
    op.add_column("stageroute_decisions", sa.Column("mix_id", sa.Text, nullable=True))
    op.add_column("stageroute_pending_rewards", sa.Column("caller", sa.Text, nullable=True))
    op.add_column("stageroute_stages", sa.Column("evidence", sa.Text, nullable=True))
    op.create_table(
        "stageroute_mixes",
        sa.Column("mix_id", sa.Text, primary_key=True),
        sa.Column("group_name", sa.Text, nullable=False),
        sa.Column("made_at", sa.Double, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("stageroute_mixes_made", "stageroute_mixes", ["made_at"])
    op.create_table(
        "stageroute_history",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, primary_key=True, autoincrement=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("open_calls", sa.BigInteger, nullable=False),
        sa.Column("spend_usd", sa.Double, nullable=False),
        sa.Column("in_flight_usd", sa.Double, nullable=False),
        sa.Column("reward_count", sa.BigInteger, nullable=False),
        sa.Column("reward_total", sa.Double, nullable=False),
    )
    op.create_table(
        "stageroute_pins",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("pinned", sa.Integer, nullable=True),
        sa.Column("set_at", sa.Double, nullable=False),
        sa.CheckConstraint("pinned IN (0, 1)", name="stageroute_pins_pinned"),
    )
