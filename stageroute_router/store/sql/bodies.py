"""What is stored as JSON inside a row: for people to look at, never for routing. What cannot be read is nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from stageroute_router.core.snapshot import ArmEvidence
from stageroute_router.store.writes import MixedArm, MixRecorded

_MIX_COLUMNS = ("mix_id", "group", "made_at")


def text_of_evidence(evidence: Sequence[ArmEvidence]) -> str | None:
    """Return what a window knew of its candidates as text; None for nothing."""
    return json.dumps([asdict(one) for one in evidence]) if evidence else None


def evidence_of_text(text: object) -> tuple[ArmEvidence, ...]:
    """Return what :func:`text_of_evidence` wrote; nothing where it cannot be read."""
    try:
        return tuple(ArmEvidence(**one) for one in json.loads(str(text or "[]")))
    except (TypeError, ValueError):
        return ()


def text_of_mix(mix: MixRecorded) -> str:
    """Return a mix as text, but what has columns of its own, and what is as nearly always."""
    body = _said(mix)
    for name in _MIX_COLUMNS:
        del body[name]
    body["arms"] = [_said(arm) for arm in mix.arms]
    return json.dumps(body)


def _said(value: MixRecorded | MixedArm) -> dict[str, Any]:
    """Return the fields that differ from their defaults: these rows are many."""
    named = ((one, getattr(value, one.name)) for one in fields(value))
    return {one.name: given for one, given in named if given != one.default}


def mix_of_text(mix_id: str, group: str, made_at: float, text: str) -> MixRecorded | None:
    """Return what :func:`text_of_mix` wrote; None where it cannot be read."""
    try:
        body = json.loads(text)
        arms = tuple(MixedArm(**arm) for arm in body.pop("arms"))
        body["probes"] = tuple(body.get("probes", ()))
        return MixRecorded(mix_id=mix_id, group=group, made_at=made_at, arms=arms, **body)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
