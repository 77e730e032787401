"""The sums of statistics per stage, added up from the decisions and rewards that are stored.

Only a new table: workers of the release before may go on writing meanwhile. What they write is missing in it until
``stageroute db rebuild``, and nowhere else.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ADD_UP = """
INSERT INTO stageroute_stage_statistics (
    group_name, stage, segment, arm,
    pulls, failures, reward_count, reward_sum, reward_sumsq, cost_count, cost_sum, cost_sumsq
)
SELECT
    d.group_name,
    d.stage,
    CASE WHEN d.made_at < g.forgotten_until THEN '' ELSE d.segment END,
    d.served_arm,
    COUNT(*),
    SUM(CASE WHEN d.state = 'failed' THEN 1 ELSE 0 END),
    SUM(COALESCE(r.reward_count, 0)),
    SUM(COALESCE(r.reward_sum, 0.0)),
    SUM(COALESCE(r.reward_sumsq, 0.0)),
    SUM(CASE WHEN d.state = 'settled' AND d.lost_at IS NULL THEN 1 ELSE 0 END),
    SUM(CASE WHEN d.state = 'settled' AND d.lost_at IS NULL THEN d.cost_usd ELSE 0.0 END),
    SUM(CASE WHEN d.state = 'settled' AND d.lost_at IS NULL THEN d.cost_usd * d.cost_usd ELSE 0.0 END)
FROM stageroute_decisions AS d
LEFT JOIN stageroute_segments AS g ON g.group_name = d.group_name AND g.segment = d.segment
LEFT JOIN (
    SELECT decision_id, COUNT(*) AS reward_count, SUM(reward) AS reward_sum, SUM(reward * reward) AS reward_sumsq
    FROM stageroute_rewards
    GROUP BY decision_id
) AS r ON r.decision_id = d.decision_id
WHERE d.state <> 'withdrawn'
GROUP BY 1, 2, 3, 4
"""


def upgrade() -> None:
    """Add the table of statistics per stage, with what is stored added up."""
    op.create_table(
        "stageroute_stage_statistics",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("stage", sa.BigInteger, primary_key=True, autoincrement=False),
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
    )
    op.execute(_ADD_UP)
