"""Create the tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create groups, statistics, configurations, stages, decisions, rewards and pending rewards."""
    op.create_table(
        "stageroute_groups",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("open_calls", sa.BigInteger, nullable=False),
        sa.Column("spend_usd", sa.Double, nullable=False),
        sa.Column("in_flight_usd", sa.Double, nullable=False),
        sa.Column("surplus_usd", sa.Double, nullable=False),
        sa.Column("debt_usd", sa.Double, nullable=False),
        sa.Column("token_calls", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "calls >= 0 AND open_calls >= 0 AND token_calls >= 0", name="stageroute_groups_counts"
        ),
        sa.CheckConstraint("spend_usd >= 0", name="stageroute_groups_spend"),
    )
    op.create_table(
        "stageroute_statistics",
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
        sa.CheckConstraint(
            "pulls >= 0 AND failures >= 0 AND reward_count >= 0 AND cost_count >= 0",
            name="stageroute_statistics_counts",
        ),
    )
    op.create_table(
        "stageroute_configurations",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("arms", sa.Text, nullable=False),
    )
    op.create_table(
        "stageroute_stages",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("stage", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("live", sa.Text, nullable=False),
        sa.Column("explored", sa.Text, nullable=True),
        sa.Column("explore_share", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("opened_at", sa.Double, nullable=False),
        sa.Column("opened_at_call", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "stageroute_decisions",
        sa.Column("row_number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("response_id", sa.Text, nullable=True),
        sa.Column("group_name", sa.Text, nullable=False),
        sa.Column("segment", sa.Text, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("served_arm", sa.Text, nullable=False),
        sa.Column("stage", sa.BigInteger, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("expected_cost_usd", sa.Double, nullable=False),
        sa.Column("budget_usd", sa.Double, nullable=False),
        sa.Column("surplus_cap_usd", sa.Double, nullable=False),
        sa.Column("booking", sa.Text, nullable=False),
        sa.Column("reward_ucb", sa.Double, nullable=False),
        sa.Column("cost_lcb_usd", sa.Double, nullable=False),
        sa.Column("shadow_price", sa.Double, nullable=False),
        sa.Column("made_at", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cost_usd", sa.Double, nullable=True),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=True),
        sa.Column("completion_tokens", sa.BigInteger, nullable=True),
        sa.Column("closed_at", sa.Double, nullable=True),
        sa.CheckConstraint(
            "state IN ('open', 'settled', 'failed', 'withdrawn')", name="stageroute_decisions_state"
        ),
        sa.CheckConstraint("booking IN ('surplus', 'debt', 'none')", name="stageroute_decisions_booking"),
        sa.CheckConstraint("cost_usd >= 0", name="stageroute_decisions_cost"),
        sa.CheckConstraint("probability >= 0 AND probability <= 1", name="stageroute_decisions_probability"),
    )
    op.create_index("stageroute_decisions_id", "stageroute_decisions", ["decision_id"], unique=True)
    op.create_index("stageroute_decisions_call", "stageroute_decisions", ["call_id"])
    op.create_index("stageroute_decisions_response", "stageroute_decisions", ["response_id"])
    op.create_table(
        "stageroute_rewards",
        sa.Column("decision_id", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("reward", sa.Double, nullable=False),
        sa.Column("reported_key", sa.Text, nullable=False),
        sa.Column("reported_at", sa.Double, nullable=False),
        sa.CheckConstraint("reward >= 0 AND reward <= 1", name="stageroute_rewards_range"),
    )
    op.create_table(
        "stageroute_pending_rewards",
        sa.Column("reported_key", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("reward", sa.Double, nullable=False),
        sa.Column("reported_at", sa.Double, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.CheckConstraint("reward >= 0 AND reward <= 1", name="stageroute_pending_rewards_range"),
    )
    op.create_index("stageroute_pending_rewards_received", "stageroute_pending_rewards", ["received_at"])
