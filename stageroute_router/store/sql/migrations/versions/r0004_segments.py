"""Which segments a group's calls belong to, and what found those that the calls did not name.

Only new tables: workers of the release before, whose calls have no segment, may go on writing meanwhile.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the tables of segments and segmenters."""
    op.create_table(
        "stageroute_segments",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("segment", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("first_seen", sa.Double, nullable=False),
        sa.Column("last_seen", sa.Double, nullable=False),
        sa.Column("forgotten_until", sa.Double, nullable=True),
        sa.CheckConstraint("kind IN ('label', 'auto')", name="stageroute_segments_kind"),
    )
    op.create_table(
        "stageroute_segmenters",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("fitted", sa.Text, nullable=False),
        sa.Column("fitted_at", sa.Double, nullable=False),
        sa.CheckConstraint("version >= 1", name="stageroute_segmenters_version"),
    )
