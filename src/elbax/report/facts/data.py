"""The data of a run: what they are, how they were split, and what was done to them before the model saw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elbax.report.facts.reading import Reading

__all__ = ["DataFacts", "data_facts"]

BINARISATION = {
    "dynamic": (
        "dynamic: a pixel is 1 with the probability of its grey level, drawn anew for every training batch. Test "
        "figures are for one draw, which the seed of the run fixes."
    ),
    "fixed": "fixed: a pixel is 1 with the probability of its grey level, drawn once before training.",
    "threshold": "threshold: a pixel is 1 where its grey level exceeds a threshold; nothing is drawn.",
    "none": (
        "none: grey levels in [0, 1] are used as they are. A Bernoulli likelihood of such values is a cross-entropy, "
        "not a normalised density, so these figures must not be compared with those of binary images or of densities."
    ),
}


@dataclass(frozen=True)
class DataFacts:
    """The data of a run.

    Attributes:
        name: of the set, or of the user's file.
        sizes: data in each split.
        image_shape: height and width, or `None` if the data are no images.
        num_levels: the level of intensity 1, or `None`.
        split: in words, how the splits were made.
        licence: of the data.
        citation: how to cite them.
        files: name and sha256 of every file that was read.
        binarisation: in words, or `""`.
    """

    name: str
    sizes: Mapping[str, int]
    image_shape: tuple[int, int] | None
    num_levels: int | None
    split: str
    licence: str
    citation: str
    files: Mapping[str, str]
    binarisation: str


def data_facts(reading: Reading) -> DataFacts:
    """The data of a run: from its configuration, and from the data themselves where the run could be opened."""
    config, data = reading.config, reading.run.data if reading.run else None
    about = config.get("data_set", {})
    splits = {s: len(getattr(data, s)) for s in ("train", "valid", "test") if getattr(data, s, None) is not None}
    return DataFacts(
        name=str(getattr(data, "name", "")) or Path(str(config.get("data", ""))).name,
        sizes=splits,
        image_shape=getattr(data, "image_shape", None),
        num_levels=getattr(data, "num_levels", None),
        split=str(about.get("description", "")),
        licence=str(about.get("licence", "")),
        citation=str(about.get("citation", "")),
        files={str(k): str(v) for k, v in config.get("data_files", {}).items()},
        binarisation=binarisation_text(config.get("options", {})),
    )


def binarisation_text(options: Mapping[str, Any]) -> str:
    """What a recipe's choice of binarisation means; empty if it has none."""
    choice = str(options.get("binarisation", ""))
    name, _, value = choice.partition(":")
    words = BINARISATION.get(name, choice)
    return f"{choice}{words.removeprefix(name)}" if value else words
