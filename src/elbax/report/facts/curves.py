"""The history of a run as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from elbax.fit.result import Row

__all__ = ["MAX_PARTS", "Curves", "Part", "curves"]

TRANSIENT = 0.1
MAX_PARTS = 6
REST = "all other costs"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Part:
    """A part of the bound over training, nats per datum.

    Attributes:
        title: what it is.
        training: mean of each block. Shape `[blocks]`.
        validation: its value at each validation, or `None`. Shape `[validations]`.
    """

    title: str
    training: np.ndarray
    validation: np.ndarray | None


@dataclass(frozen=True)
class Curves:
    """Bounds and their parts over training, in nats per datum; one entry per block, or per validation.

    Attributes:
        steps: last step of each block.
        bound: mean training bound of each block.
        std_error: of `bound`, from the spread of the single steps.
        parts: what adds up to minus the bound; empty if the bound has no parts (several particles in the logarithm).
        valid_steps: steps of the validations.
        valid_bound: validation bounds.
        best_step: step of the best validation; the last step without validations.
    """

    steps: np.ndarray
    bound: np.ndarray
    std_error: np.ndarray
    parts: tuple[Part, ...]
    valid_steps: np.ndarray
    valid_bound: np.ndarray
    best_step: int

    @property
    def block(self) -> int:
        """Steps per block."""
        return int(self.steps[0])

    def settled(self, steps: np.ndarray) -> np.ndarray:
        """Which of some steps lie after the first transient: the first tenth of training.

        In that tenth the bound moves so much further than afterwards that an axis which shows all of it shows nothing
        else. Figures fit their axes to the rest, and say how much they leave out.
        """
        return steps > TRANSIENT * self.steps[-1]


def curves(history: Sequence[Row], best_step: int | None) -> Curves | None:
    """The history as arrays; `None` if no block was completed."""
    if not history:
        return None
    validations = [row for row in history if row.valid_bound is not None]
    return Curves(
        steps=np.array([row.step for row in history]),
        bound=np.array([row.bound for row in history], float),
        std_error=np.array([row.std_error for row in history], float),
        parts=parts_of(columns([r.costs for r in history]), columns([r.valid_costs for r in validations])),
        valid_steps=np.array([row.step for row in validations], int),
        valid_bound=np.array([row.valid_bound for row in validations], float),
        best_step=best_step or history[-1].step,
    )


def columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Rows of named numbers as named columns; NaN where a row lacks a name."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows], float) for name in names}


def parts_of(training: Mapping[str, np.ndarray], validation: Mapping[str, np.ndarray]) -> tuple[Part, ...]:
    """The costs of a bound as reconstruction terms, KL terms, and the rest.

    A KL term that is estimated comes in two costs, `log q(z)` and `-log p(z)`, which mean nothing alone and are added
    here. Where there are more than `MAX_PARTS` parts, the KL terms are added up, then the rest.
    """
    titles = {name: title(name, training) for name in training}
    if len(set(titles.values())) > MAX_PARTS:
        titles = {name: "KL to the prior, all sites" if t.startswith("KL") else t for name, t in titles.items()}
    if len(set(titles.values())) > MAX_PARTS:
        kept = sorted(set(titles.values()), key=rank)[: MAX_PARTS - 1]
        titles = {name: t if t in kept else REST for name, t in titles.items()}
    if len(set(titles.values())) < 2:
        return ()
    members = {t: [name for name in titles if titles[name] == t] for t in sorted(set(titles.values()), key=rank)}
    complete = {t: names for t, names in members.items() if set(names) <= set(validation)}
    return tuple(
        Part(t, total(training, names), total(validation, names) if t in complete else None)
        for t, names in members.items()
    )


def title(name: str, names: Iterable[str]) -> str:
    """What a cost of a bound is, by the names that bounds give to their costs."""
    if name.startswith("KL("):
        return f"{name}: KL to the prior, in closed form"
    site = name[name.find("(") + 1 : -1]
    if name in (f"log q({site})", f"-log p({site})") and f"log q({site})" in names:
        return f"KL({site}): KL to the prior, estimated from draws"
    if name.startswith("-log p("):
        return f"{MINUS}{name[1:]}: reconstruction"
    return name


def rank(title: str) -> tuple[int, str]:
    """Reconstructions first, then KL terms, then all else, what was added up last."""
    if title.endswith(": reconstruction"):
        return 0, title
    return (1 if title.startswith("KL") else 3 if title == REST else 2), title


def total(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """The sum of some columns."""
    return np.sum([columns[name] for name in names], axis=0)
