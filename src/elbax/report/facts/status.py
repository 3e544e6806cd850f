"""How a run ended, in words."""

from __future__ import annotations

from dataclasses import dataclass

from elbax.fit.stopping import Outcome
from elbax.report.facts.reading import Reading, number

__all__ = ["Status", "status"]

# Headline and tone: whether a reader may go on to the figures, should read on, or should stop here.
SAID = {
    Outcome.CONVERGED: ("Converged", "good"),
    Outcome.PATIENCE: ("Stopped by the validation bound", "good"),
    Outcome.MAX_STEPS: ("Stopped at the limit on steps", "notice"),
    Outcome.DIVERGED: ("Diverged", "bad"),
    Outcome.NON_FINITE: ("A value became NaN or infinite", "bad"),
    Outcome.INTERRUPTED: ("Interrupted", "notice"),
}


@dataclass(frozen=True)
class Status:
    """How a run ended.

    Attributes:
        headline: in a few words.
        tone: `"good"`, `"notice"` or `"bad"`.
        advice: what to make of it and what to do next.
        steps: the last step that is recorded.
        described_step: the step whose parameters the report describes; `None` if no parameters were saved.
        seconds: wall-clock time of the last session of training, or `None`.
        stale: whether training went on after the figures of the result were computed.
    """

    headline: str
    tone: str
    advice: str
    steps: int
    described_step: int | None
    seconds: float | None
    stale: bool


def status(reading: Reading) -> Status:
    """The state of a run: from its result, or from what there is without one."""
    result, last = reading.result, reading.last_step
    path = reading.folder.result_path
    stale = "steps" in result and number(result, "steps", path) < last
    seconds = number(result, "seconds", path) if "seconds" in result else None
    described = reading.run.step if reading.run else None
    if not result or stale:
        headline, tone, advice = unfinished(reading, stale=stale)
    else:
        headline, tone = said(str(result.get("outcome", "")))
        advice = str(result.get("advice", ""))
    return Status(headline, tone, advice, last, described, seconds, stale)


def said(outcome: str) -> tuple[str, str]:
    """Headline and tone of an outcome, also of one that a later version of elbax has written."""
    known = {o.value: words for o, words in SAID.items()}
    return known.get(outcome, (f"Ended: {outcome or 'not recorded'}", "notice"))


def unfinished(reading: Reading, *, stale: bool) -> tuple[str, str, str]:
    """What to say of a run without a result, or with one that training has overtaken."""
    if stale:
        headline = "Resumed and not finished"
        what = (
            f"The test figures are those of step {int(reading.result['steps']):,}; training has since gone on to step "
            f"{reading.last_step:,} without reaching an end."
        )
    else:
        headline = "Not finished"
        what = "There is no result yet: the run is still going on, or it was interrupted or killed."
    if reading.run is None:
        return headline, "notice", f"{what} No checkpoint was saved so far, so nothing can be said about the model."
    return headline, "notice", f"{what} Resume it to go on exactly where the last checkpoint left it."
