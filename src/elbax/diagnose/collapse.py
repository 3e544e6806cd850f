"""`collapse`: which latents have something to say of the data, which have not, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from elbax.diagnose.estimate import mean_of
from elbax.diagnose.information import Information, Weights, estimate, std_error
from elbax.diagnose.layers import ACTIVE_KL, Collapse, LatentLayer
from elbax.diagnose.posteriors import Drawn, Points, Posteriors
from elbax.errors import ConfigError, DataError, ProgramError
from elbax.estimators.surrogate import check_key
from elbax.fit.checks import check_finite, check_observed
from elbax.fit.feed import check_rows

__all__ = ["collapse"]

DRAWS = 2000  # in all, at least: the information of a few is mostly that of rare draws


def collapse(
    model: Callable,
    guide: Callable,
    data: Any,
    *,
    key: jax.Array,
    num_draws: int | None = None,
    num_others: int = 500,
    batch_size: int = 100,
) -> Collapse:
    """KL, mutual information and activity of every unit of every latent, with a verdict per site.

    The information of a site is that between its draws and what the guide computes them from, given the sites that it
    depends on *in the model*, as they were drawn: I(x; z) of a single layer, I(x; z_1 | z_2) of the lower layer of a
    top-down guide. Where the guide computes a site also from other latents (a bottom-up guide: z_2 from z_1), these
    count as part of the datum, with one draw of each. So a site whose posterior is the model's own distribution of it
    has no information, whatever it passes on.

    Main arguments:
        model: program with observed sites.
        guide: program with the model's latent sites.
        data: an array or tuple of arrays with one row per datum.
        key: random key.

    Other arguments:
        num_draws: of the latents of each datum, at least 2; by default 2, and as many as make 2000 draws in all.
        num_others: `M`. Up to `2 M` data, q(z) is the mean over all of them, and its information has no bias; of more
            data, M are drawn, and q(z) at their latents is estimated from M others (see `elbax.diagnose.information`).
            The cost is that of at most `4 M^2 num_draws` densities.
        batch_size: data evaluated together.

    Returns:
        The findings; `print` them. Sites without one row per datum are named as left out.

    Raises:
        ProgramError: if there are no latents with one row per datum, or data influence each other's posteriors.
        DataError: for empty, uneven or non-finite data, or a single datum.

    References:
        Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016 (active units by variance). Sonderby
        et al., Ladder Variational Autoencoders, NeurIPS 2016 (active units by KL). He et al., Lagging Inference
        Networks and Posterior Collapse, ICLR 2019 (I_q). Hoffman & Johnson, ELBO surgery, 2016.
    """
    check_key(key)
    if (num_draws is not None and num_draws < 2) or num_others < 1:
        raise ConfigError(f"num_draws must be at least 2 and num_others at least 1; got {num_draws} and {num_others}.")
    check_finite(data, "data")
    num_data = check_rows(data)
    if num_data < 2:
        raise DataError("mutual information needs at least 2 data to tell apart; there is one row.")
    check_observed(model, data, "data")
    posteriors = Posteriors(model, guide, data, batch_size)
    _check_latents(posteriors)
    row_key, draw_key = jax.random.split(key)
    looked_at, others = _choose(row_key, num_data, num_others)
    num_draws = num_draws or max(2, -(-DRAWS // len(looked_at)))
    drawn, kept = _draw(posteriors, draw_key, num_draws, np.union1d(looked_at, others))
    weights = Weights(num_data, len(others) - (num_data == len(others)))
    look = _Look(posteriors, weights, looked_at, others, kept)
    layers = tuple(_layer(posteriors, look, drawn[name], name) for name in posteriors.order if name in drawn)
    whole = look.information(posteriors.latents, posteriors.latents[-1], jointly=True)
    total_kl = np.sum([_sum(d.kl).mean(1) for d in drawn.values()], axis=0)
    here = np.sum([_sum(look.of(name).kl) for name in drawn], axis=0)
    return Collapse(
        layers,
        mean_of(total_kl),
        estimate(whole.each, whole=weights.whole),
        estimate(here - whole.each, whole=weights.whole),
        (whole.low, whole.high),
        weights,
        num_draws,
        posteriors.left_out,
    )


def _check_latents(posteriors: Posteriors) -> None:
    if not posteriors.latents:
        said = "; ".join(posteriors.left_out.values())
        raise ProgramError(
            f"no latent has one row per datum: {said}. Collapse means that latents of single data ignore them; a "
            "latent that all data share has one posterior by design."
        )


def _choose(key: jax.Array, num_data: int, num_others: int) -> tuple[np.ndarray, np.ndarray]:
    """The data whose draws are looked at, and those whose posteriors are mixed."""
    if num_data <= 2 * num_others:
        return np.arange(num_data), np.arange(num_data)
    order = np.asarray(jax.random.permutation(key, num_data))
    return np.sort(order[:num_others]), np.sort(order[num_others : 2 * num_others])


def _draw(
    posteriors: Posteriors, key: jax.Array, num_draws: int, wanted: np.ndarray
) -> tuple[dict[str, Drawn], dict[str, Drawn]]:
    """KL terms and means of all data; draws and densities of those that are wanted."""
    parts: dict[str, list[Drawn]] = {}
    kept: dict[str, list[Drawn]] = {}
    nothing = np.zeros(0)
    for rows, said in posteriors.draw(key, num_draws):
        some = np.isin(rows, wanted)
        for name, d in said.items():
            kept.setdefault(name, []).append(Drawn(d.z[some], d.log_q[some], d.kl[some], d.log_ratio[some], nothing))
            if name in posteriors.latents:
                parts.setdefault(name, []).append(Drawn(nothing, nothing, d.kl, nothing, d.mean))

    def joined(pieces: list[Drawn]) -> Drawn:
        columns = zip(*((p.z, p.log_q, p.kl, p.log_ratio, p.mean) for p in pieces), strict=True)
        return Drawn(*(np.concatenate(column) for column in columns))

    return {n: joined(p) for n, p in parts.items()}, {n: joined(p) for n, p in kept.items()}


class _Look:
    """Draws of some data, beside the posteriors of others."""

    def __init__(
        self,
        posteriors: Posteriors,
        weights: Weights,
        looked_at: np.ndarray,
        others: np.ndarray,
        kept: dict[str, Drawn],
    ) -> None:
        self.posteriors, self.weights, self.looked_at = posteriors, weights, looked_at
        rows = np.union1d(looked_at, others)  # those that were kept
        place, theirs = np.searchsorted(rows, looked_at), np.searchsorted(rows, others)
        self.drawn = {
            name: Drawn(d.z[place], d.log_q[place], d.kl[place], d.log_ratio[place], d.mean) for name, d in kept.items()
        }
        self.num_draws = next(iter(kept.values())).z.shape[1]
        self.others = Points(others, {name: d.z[theirs, 0] for name, d in kept.items()})
        self.sums: dict[tuple[str, ...], Any] = {}

    def of(self, name: str) -> Drawn:
        """What a site said of the data looked at."""
        return self.drawn[name]

    def information(self, sites: tuple[str, ...], name: str, *, jointly: bool = False) -> Information:
        """Of a site given the sites before it in `sites`; or of all `sites` up to it, jointly."""
        if sites not in self.sums:
            z = {n: self.of(n).z.reshape(-1, *self.of(n).z.shape[2:]) for n in sites}
            points = Points(np.repeat(self.looked_at, self.num_draws), z)
            self.sums[sites] = self.posteriors.log_sums(sites, points, self.others)
        those = sites[: sites.index(name) + 1]
        own = np.cumsum([_sum(self.of(n).log_q) for n in those], axis=0)  # [sites, data, draws]
        sums = [self._by_datum(self.sums[sites][n][0]) for n in those]
        before = (own[-2], sums[-2]) if len(those) > 1 else None
        log_q = np.asarray(self.of(name).log_q, np.float64)
        start = own[-1] - _sum(log_q)
        each = start.reshape(*start.shape, *[1] * (log_q.ndim - 2)) + log_q
        units = (each, self._by_datum(self.sums[sites][name][1]))
        found = Information.of(self.weights, None if jointly else before, (own[-1], sums[-1]), units)
        controls = [self._control(n) for n in (those if jointly else (name,))]
        if jointly:
            controls = [np.sum([_sum(c) for c in controls], axis=0)[..., None]]
        return found.steadied(controls[0], whole=self.weights.whole)

    def _control(self, name: str) -> np.ndarray:
        d = self.of(name)
        with np.errstate(invalid="ignore"):  # draws outside the support of the model: no control
            return np.asarray(d.kl, np.float64) - d.log_ratio

    def _by_datum(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, self.num_draws, *x.shape[1:])


def _layer(posteriors: Posteriors, look: _Look, drawn: Drawn, name: str) -> LatentLayer:
    ancestors = posteriors.order[name]
    sites = posteriors.latents
    sites = sites[: sites.index(name) + 1]
    given = tuple(n for n in sites[:-1] if n in ancestors)
    # All layers of a top-down guide share one pass through the pairs of data.
    found = look.information(posteriors.latents if given == sites[:-1] else (*given, name), name)
    whole = look.weights.whole
    kl = np.asarray(drawn.kl.mean(1), np.float64)
    here = _sum(look.of(name).kl)
    units = found.units
    alone = not posteriors.is_chain(name) and units.shape[2:] == kl.shape[1:]
    return LatentLayer(
        name,
        given,
        tuple(n for n, those in posteriors.order.items() if name in those),
        mean_of(kl.reshape(len(kl), -1).sum(1)),
        posteriors.exact[name],
        estimate(found.each, whole=whole),
        found.low,
        found.high,
        estimate(here - found.each, whole=whole),
        kl.mean(0),
        units.mean((0, 1)) if alone else None,
        np.asarray(std_error(units, whole=whole)) if alone else None,
        None if posteriors.is_discrete(name) else _variance(drawn.mean),
        float(np.mean(kl > ACTIVE_KL)) if posteriors.exact[name] else None,
        look.weights.num_data,
    )


def _variance(mean: np.ndarray) -> np.ndarray | None:
    """Variance over data of the posterior mean, the spread that draws of earlier sites cause taken off."""
    if np.isnan(mean).any():
        return None
    mean = np.asarray(mean, np.float64)
    return np.maximum(mean.mean(1).var(0) - mean.var(1, ddof=1).mean(0) / mean.shape[1], 0.0)


def _sum(x: np.ndarray) -> np.ndarray:
    """Over units. Shape `[data, draws]`."""
    return np.asarray(x, np.float64).reshape(*x.shape[:2], -1).sum(2)
