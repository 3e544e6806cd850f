"""What each latent site tells of the data, as the run recorded it."""

from __future__ import annotations

from dataclasses import dataclass

from elbax.diagnose.estimate import Estimate
from elbax.report.facts.reading import Reading, number, required
from elbax.report.facts.scores import estimate

__all__ = ["Told", "told"]


@dataclass(frozen=True)
class Told:
    """One latent site; see `elbax.LatentLayer`.

    Attributes:
        site: name of the latent site.
        kl, information, aggregate: KL(q || p), mutual information with the data, KL(q(z) || p), nats per datum.
        used, units: units that tell something of the data, of how many.
        verdict: alive, partly collapsed or collapsed.
        advice: what to do about it; may be empty.
    """

    site: str
    kl: Estimate
    information: Estimate
    aggregate: Estimate
    used: int
    units: int
    verdict: str
    advice: str


def told(reading: Reading) -> tuple[Told, ...]:
    """One entry per latent site with one row per datum; none if the run was not evaluated."""
    path = reading.folder.result_path
    layers = (reading.result.get("collapse") or {}).get("layers", {})
    return tuple(
        Told(
            name,
            estimate(layer, "kl", path),
            estimate(layer, "information", path),
            estimate(layer, "aggregate_kl", path),
            int(number(layer, "used", path)),
            int(number(layer, "units", path)),
            str(required(layer, "verdict", path)),
            str(layer.get("advice", "")),
        )
        for name, layer in layers.items()
    )
