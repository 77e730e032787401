"""The tables of a store. Sums are stored, never anything derived from them.

What a migration creates (``migrations/versions``) is exactly this; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

metadata = MetaData()

VERSION_TABLE = "stageroute_alembic_version"
"""Alembic's table for our revisions: a name of our own, so that the application's Alembic is not touched."""

# SQLite counts rows by itself only in a column that is exactly INTEGER.
_RowNumber = BigInteger().with_variant(Integer, "sqlite")

groups = Table(
    "stageroute_groups",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("open_calls", BigInteger, nullable=False),
    Column("spend_usd", Double, nullable=False),
    Column("in_flight_usd", Double, nullable=False),
    Column("surplus_usd", Double, nullable=False),
    Column("debt_usd", Double, nullable=False),
    Column("token_calls", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("calls >= 0 AND open_calls >= 0 AND token_calls >= 0", name="stageroute_groups_counts"),
    CheckConstraint("spend_usd >= 0", name="stageroute_groups_spend"),
)
"""One row per model group: its account, and how often account, statistics, stages and pins have changed."""

statistics = Table(
    "stageroute_statistics",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("pulls", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("reward_count", BigInteger, nullable=False),
    Column("reward_sum", Double, nullable=False),
    Column("reward_sumsq", Double, nullable=False),
    Column("cost_count", BigInteger, nullable=False),
    Column("cost_sum", Double, nullable=False),
    Column("cost_sumsq", Double, nullable=False),
    CheckConstraint(
        "pulls >= 0 AND failures >= 0 AND reward_count >= 0 AND cost_count >= 0",
        name="stageroute_statistics_counts",
    ),
)
"""Sufficient statistics per cell: always the fold of the decisions and rewards below."""

stage_statistics = Table(
    "stageroute_stage_statistics",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("stage", BigInteger, primary_key=True, autoincrement=False),
    Column("segment", Text, primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("pulls", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("reward_count", BigInteger, nullable=False),
    Column("reward_sum", Double, nullable=False),
    Column("reward_sumsq", Double, nullable=False),
    Column("cost_count", BigInteger, nullable=False),
    Column("cost_sum", Double, nullable=False),
    Column("cost_sumsq", Double, nullable=False),
)
"""The same per stage in which the decisions were made, of those that are not folded away yet: with ``folded`` below,
the statistics above, up to rounding. Without checks: a worker of schema 4 does not keep them, and one that does must
not stumble over what is missing then. ``stageroute db rebuild`` adds them up anew from decisions and rewards."""

configurations = Table(
    "stageroute_configurations",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("settings", Text, nullable=False),
    Column("arms", Text, nullable=False),
)
"""One row per model group: its settings and candidates as JSON, as the last process said."""

pins = Table(
    "stageroute_pins",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("pinned", Integer, nullable=True),
    Column("set_at", Double, nullable=False),
    CheckConstraint("pinned IN (0, 1)", name="stageroute_pins_pinned"),
)
"""One row per arm that an operator ever pinned or unpinned; ``pinned`` is NULL where the configuration decides again:
the row stays, so that an older write which arrives late is known to be older."""

segments = Table(
    "stageroute_segments",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("forgotten_until", Double, nullable=True),
    CheckConstraint("kind IN ('label', 'auto')", name="stageroute_segments_kind"),
)
"""One row per segment with a name. Its decisions made before ``forgotten_until`` count in ``""``: their segment was
forgotten. It has come back if ``last_seen`` is later; if not, the row stays until those decisions are folded away."""

segmenters = Table(
    "stageroute_segmenters",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("fitted", Text, nullable=False),
    Column("fitted_at", Double, nullable=False),
    CheckConstraint("version >= 1", name="stageroute_segmenters_version"),
)
"""One row per version of what finds unnamed segments; the first writer wins. ``fitted`` is a JSON object."""

stages = Table(
    "stageroute_stages",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("stage", BigInteger, primary_key=True, autoincrement=False),
    Column("live", Text, nullable=False),
    Column("explored", Text, nullable=True),
    Column("explore_share", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("opened_at_call", BigInteger, nullable=False),
    Column("evidence", Text, nullable=True),
)
"""One row per stage; the first writer wins. ``live`` is a JSON list of arms, ``evidence`` one of what was known of each
candidate at the window; NULL where a release before this one planned it."""

decisions = Table(
    "stageroute_decisions",
    metadata,
    Column("row_number", _RowNumber, primary_key=True),
    Column("decision_id", Text, nullable=False),
    Column("call_id", Text, nullable=False),
    Column("response_id", Text, nullable=True),
    Column("group_name", Text, nullable=False),
    Column("segment", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("served_arm", Text, nullable=False),
    Column("stage", BigInteger, nullable=False),
    Column("probability", Double, nullable=False),
    Column("expected_cost_usd", Double, nullable=False),
    Column("budget_usd", Double, nullable=False),
    Column("surplus_cap_usd", Double, nullable=False),
    Column("booking", Text, nullable=False),
    Column("reward_ucb", Double, nullable=False),
    Column("cost_lcb_usd", Double, nullable=False),
    Column("shadow_price", Double, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("cost_usd", Double, nullable=True),
    Column("prompt_tokens", BigInteger, nullable=True),
    Column("completion_tokens", BigInteger, nullable=True),
    Column("closed_at", Double, nullable=True),
    Column("lost_at", Double, nullable=True),
    Column("caller", Text, nullable=True),
    Column("mix_id", Text, nullable=True),
    CheckConstraint("state IN ('open', 'settled', 'failed', 'withdrawn')", name="stageroute_decisions_state"),
    CheckConstraint("booking IN ('surplus', 'debt', 'none')", name="stageroute_decisions_booking"),
    CheckConstraint("cost_usd >= 0", name="stageroute_decisions_cost"),
    CheckConstraint("probability >= 0 AND probability <= 1", name="stageroute_decisions_probability"),
    Index("stageroute_decisions_id", "decision_id", unique=True),
    Index("stageroute_decisions_call", "call_id"),
    Index("stageroute_decisions_response", "response_id"),
    Index("stageroute_decisions_made", "made_at"),
    Index(
        "stageroute_decisions_open",
        "made_at",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)
"""One row per decision, in the order of arrival: ``row_number`` tells which one of a call was the last.

``lost_at`` is set on one whose end was never reported; its ``state`` is then ``settled``, so that a worker of the
first release, which does not know the column, leaves it alone. ``caller`` is a digest of who made the call, ``mix_id``
names a row of ``mixes``; no index on either, because nothing is looked up by them.
"""

mixes = Table(
    "stageroute_mixes",
    metadata,
    Column("mix_id", Text, primary_key=True),
    Column("group_name", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("body", Text, nullable=False),
    Index("stageroute_mixes_made", "made_at"),
)
"""One row per distribution that decisions were sampled from; ``body`` is a JSON object. For receipts only."""

rewards = Table(
    "stageroute_rewards",
    metadata,
    Column("decision_id", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("reward", Double, nullable=False),
    Column("reported_key", Text, nullable=False),
    Column("reported_at", Double, nullable=False),
    CheckConstraint("reward >= 0 AND reward <= 1", name="stageroute_rewards_range"),
)
"""One row per (decision, source): the value that counts."""

pending_rewards = Table(
    "stageroute_pending_rewards",
    metadata,
    Column("reported_key", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("reward", Double, nullable=False),
    Column("reported_at", Double, nullable=False),
    Column("received_at", Double, nullable=False),
    Column("caller", Text, nullable=True),
    CheckConstraint("reward >= 0 AND reward <= 1", name="stageroute_pending_rewards_range"),
    Index("stageroute_pending_rewards_received", "received_at"),
)
"""Rewards whose key is not known yet."""

folded = Table(
    "stageroute_folded",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("pulls", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("reward_count", BigInteger, nullable=False),
    Column("reward_sum", Double, nullable=False),
    Column("reward_sumsq", Double, nullable=False),
    Column("cost_count", BigInteger, nullable=False),
    Column("cost_sum", Double, nullable=False),
    Column("cost_sumsq", Double, nullable=False),
    Column("spend_usd", Double, nullable=False),
    Column("token_calls", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)
"""What the decisions and rewards that were folded away amount to, per cell: with the rows above, the whole log."""

upkeep = Table(
    "stageroute_upkeep",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("folded_up_to", Double, nullable=True),
    Column("last_at", Double, nullable=False),
    CheckConstraint("id = 1", name="stageroute_upkeep_one_row"),
)
"""A single row. Decisions made up to ``folded_up_to`` are folded away; ``last_at`` is when a worker last looked for
decisions that are lost or too old. Both are seconds since the epoch."""

history = Table(
    "stageroute_history",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("at", Double, primary_key=True, autoincrement=False),
    Column("calls", BigInteger, nullable=False),
    Column("open_calls", BigInteger, nullable=False),
    Column("spend_usd", Double, nullable=False),
    Column("in_flight_usd", Double, nullable=False),
    Column("reward_count", BigInteger, nullable=False),
    Column("reward_total", Double, nullable=False),
)
"""A group's totals at moments of the past, in seconds since the epoch; the older, the fewer. To be looked at only."""
