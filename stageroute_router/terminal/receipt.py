"""The receipt of a decision, for an operator who was woken up by it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stageroute_router.reports.values import Binding, DecisionReceipt
from stageroute_router.reports.wording import callers_price_sentence, shadow_price_sentence
from stageroute_router.terminal.formats import NOTHING, clean, moment, plain, reward, share, usd

_BOUND_BY: dict[Binding, str] = {
    "none": "nothing: the arm worth most was free to take",
    "budget": "the budget",
    "price": "the price that its caller gave it",
    "share": "a share: an arm may only get so much of the calls",
    "revisit": "a revisit at an arm that may have been left too early",
    "outside_live_set": "the live set: a better arm was not live in this stage",
    "unproven": "the limit on calls under way to arms whose cost is not known yet",
    "unavailable": "availability: a better arm has not answered of late",
    "probe": "a probe, to find out whether an arm that has not answered of late does again",
}


def show_receipt(receipt: DecisionReceipt, console: Console) -> None:
    """Print what was chosen and why, what else there was, and what became of it."""
    console.print(
        Text.assemble(
            (clean(receipt.arm), "bold"),
            f" was chosen for a call to {clean(receipt.group)} with probability {share(receipt.probability)}.",
        )
    )
    console.print(Text(clean(receipt.explanation)))
    console.print()
    console.print(_facts(receipt))
    console.print()
    if receipt.alternatives:
        console.print(Text("What there was to choose from", style="bold"))
        console.print(_alternatives(receipt))
    else:
        console.print(Text("What else there was to choose from was not recorded.", style="dim"))
    if len(receipt.attempts) > 1 or any(attempt.served_arm != attempt.arm for attempt in receipt.attempts):
        console.print()
        console.print(Text("The way of the call: retries and fallbacks", style="bold"))
        console.print(_attempts(receipt))


def _facts(receipt: DecisionReceipt) -> Table:
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("became", _outcome(receipt))
    facts.add_row("rewards", _rewards(receipt))
    facts.add_row("bound by", _BOUND_BY[receipt.binding])
    if receipt.priced:
        facts.add_row("price", callers_price_sentence(receipt.shadow_price))
    else:
        facts.add_row("shadow price", shadow_price_sentence(receipt.shadow_price))
    facts.add_row(
        "estimates",
        f"reward at most {reward(receipt.reward_ucb)}; cost at least {usd(receipt.cost_lcb_usd)}, expected "
        f"{usd(receipt.expected_cost_usd)}, against a budget of {usd(receipt.budget_usd_per_call)} a call",
    )
    facts.add_row("decided", f"{moment(receipt.made_at, seconds=True)}, in stage {receipt.stage}")
    if receipt.segment or receipt.estimates_of is not None:
        facts.add_row("segment", _segment(receipt))
    facts.add_row("decision id", plain(receipt.decision_id))
    facts.add_row("call id", plain(receipt.call_id))
    facts.add_row("response id", plain(receipt.response_id or NOTHING))
    return facts


def _segment(receipt: DecisionReceipt) -> Text:
    """Return the segment, and what was expected of its calls."""
    name = clean(receipt.segment) if receipt.segment else "none"
    chosen = next((one for one in receipt.alternatives if one.arm == receipt.arm), None)
    if receipt.estimates_of is None or chosen is None or chosen.segment_reward is None:
        return Text(f"{name}; the estimates are those of all calls")
    expected = f"reward {reward(chosen.segment_reward)} and cost {usd(chosen.segment_cost_usd)} expected"
    if receipt.estimates_of == receipt.segment:
        return Text(f"{name}: {expected} in it")
    return Text(f"{name}, of which nothing was known yet: {expected} for calls without a segment")


def _outcome(receipt: DecisionReceipt) -> Text:
    elsewhere = receipt.served_arm != receipt.arm
    by = f" by {clean(receipt.served_arm)}, after a fallback" if elsewhere else ""
    if receipt.state == "open":
        return Text("open: no answer was reported yet", style="yellow")
    if receipt.state == "failed":
        return Text("failed at the provider", style="red")
    if receipt.state == "lost":
        told = f"lost: its outcome was not reported; booked at the expected {usd(receipt.cost_usd)}"
        return Text(told, style="yellow")
    return Text(f"answered{by}; it cost {usd(receipt.cost_usd)}")


def _rewards(receipt: DecisionReceipt) -> Text:
    if not receipt.rewards:
        return Text("none yet")
    return Text(", ".join(f"{reward(value)} by {clean(by)}" for by, value in sorted(receipt.rewards.items())))


def _alternatives(receipt: DecisionReceipt) -> Table:
    in_segment = any(one.segment_reward is not None for one in receipt.alternatives)
    table = Table(box=None, pad_edge=False)
    table.add_column("arm", overflow="fold")
    estimates = ("reward", "cost") if in_segment else ("reward at most", "cost at least")
    for heading in ("chance", *estimates, "value"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    for other in receipt.alternatives:
        chosen = other.arm == receipt.arm
        if other.segment_reward is not None:
            expected = reward(other.segment_reward), usd(other.segment_cost_usd)
        elif in_segment:  # of an arm that was not live, only bounds over all segments are known
            expected = f"<= {reward(other.reward_ucb)}", f">= {usd(other.cost_lcb_usd)}"
        else:
            expected = reward(other.reward_ucb), usd(other.cost_lcb_usd)
        table.add_row(
            plain(("> " if chosen else "  ") + other.arm),
            share(other.probability) if other.live else "not live",
            *expected,
            NOTHING if other.value is None else f"{other.value:+.3f}",
            plain(other.why),
            style="bold" if chosen else None if other.live else "dim",
        )
    return table


def _attempts(receipt: DecisionReceipt) -> Table:
    table = Table("", "at", "group", "chosen", "served by", "state", box=None, pad_edge=False)
    table.add_column("cost", justify="right")
    for number, attempt in enumerate(receipt.attempts, start=1):
        this = attempt.decision_id == receipt.decision_id
        table.add_row(
            f"{'>' if this else ' '} {number}",
            moment(attempt.made_at, seconds=True)[11:19],
            plain(attempt.group),
            plain(f"{attempt.arm} ({share(attempt.probability)})"),
            plain(attempt.served_arm if attempt.state == "settled" else NOTHING),
            attempt.state,
            usd(attempt.cost_usd),
            style="bold" if this else None,
        )
    return table
