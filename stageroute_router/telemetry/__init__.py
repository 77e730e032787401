"""OpenTelemetry: decisions on the spans of calls, and evaluations taken as rewards. Needs the extra ``otel``."""

from __future__ import annotations

from stageroute_router.telemetry.evaluations import EVALUATION_EVENT, EvaluationRewards, Verdict, evaluating
from stageroute_router.telemetry.spans import DECISION_ID, DecisionSpans

__all__ = ["DECISION_ID", "EVALUATION_EVENT", "DecisionSpans", "EvaluationRewards", "Verdict", "evaluating"]
