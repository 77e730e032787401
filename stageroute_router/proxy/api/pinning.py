"""What is sent to pin an arm, checked."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stageroute_router.proxy.api.problems import Problem, invalid_input


class PinReport(BaseModel):
    """Whether an arm is live in every stage, whatever the configuration says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    arm: str = Field(min_length=1, max_length=256, description="The arm, as the status names it.")
    pinned: bool | None = Field(
        description="`true`: live in every stage from now on. `false`: by its worth, even if the configuration "
        "pins it. `null`: forget what was said, and go by the configuration again."
    )


def read_pin(body: bytes) -> PinReport:
    """Return what a body says.

    Raises:
        Problem: it cannot be understood.
    """
    try:
        return PinReport.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise Problem(422, "malformed_body", invalid_input(found)) from None
