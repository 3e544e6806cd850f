"""The mutual information between data and latents, from mixtures of posteriors.

    I_q(x; z) = E KL(q(z|x) || p(z)) - KL(q(z) || p(z)) = E[log q(z|x) - log q(z)],     q(z) = mean_n q(z|x_n)

q(z) at a draw `z ~ q(z|x)` is estimated from the posterior of x itself, with weight w, and those of M other data:

    w q(z|x) + (1 - w)/M sum_m q(z|x_m)

With w = 1/N, the mean of `log q(z|x) - log(...)` is I_q of the N data: without bias if the M others are all of them;
if they are a sample, the estimate of q(z) has no bias, but its logarithm has, and I_q is overestimated. With
w = 1/(M + 1), it underestimates both I_q of the N data and that of the distribution that they come from, and is at most
log(M + 1). With w = 0 (leave-one-out), it overestimates both.

I_q is never more than log N: N data cannot show more information than tells them apart.

References:
    Hoffman & Johnson, ELBO surgery, 2016 (the decomposition). Chen et al., Isolating Sources of Disentanglement in
    Variational Autoencoders, NeurIPS 2018, appendix C.2 (w = 1/N with a sample; there the last of the M data carries
    the weight that makes up for the others, here all carry the same, which has less variance). Poole et al., On
    Variational Bounds of Mutual Information, ICML 2019 (the two bounds).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from elbax.diagnose.estimate import Estimate

__all__ = ["Information", "Weights", "estimate"]


@dataclass(frozen=True)
class Weights:
    """How q(z) is estimated.

    Attributes:
        num_data: data `N` whose q(z) is meant.
        num_others: `M`, other data in the mixture of each draw.
    """

    num_data: int
    num_others: int

    @property
    def whole(self) -> bool:
        """Whether the mixture is over all data."""
        return self.num_others == self.num_data - 1

    @property
    def own(self) -> tuple[float, float, float]:
        """The weight of the own datum: for the estimate, for a lower and an upper bound."""
        return 1 / self.num_data, 1 / (self.num_others + 1), 0.0

    def log_mixture(self, own: np.ndarray, others: np.ndarray, weight: float) -> np.ndarray:
        """`log(w q(z|x) + (1 - w)/M sum_m q(z|x_m))` from `log q(z|x)` and the log of the sum."""
        rest = np.log1p(-weight) - np.log(self.num_others) + others
        return rest if weight == 0 else np.logaddexp(np.log(weight) + own, rest)


@dataclass(frozen=True)
class Information:
    """What draws of a site say of their data, given other sites.

    Attributes:
        each: `log q(z | x) - log q(z)` of each draw, nats. Shape `[data, draws]`.
        low, high: means of the same with the other two weights.
        units: the same as `each` of every unit alone. Shape `[data, draws, *units]`.
    """

    each: np.ndarray
    low: float
    high: float
    units: np.ndarray

    @classmethod
    def of(
        cls,
        weights: Weights,
        before: tuple[np.ndarray, np.ndarray] | None,
        after: tuple[np.ndarray, np.ndarray],
        units: tuple[np.ndarray, np.ndarray],
    ) -> Information:
        """From log-densities at the draws: of the own datum, and the log of the sum over the others.

        Args:
            weights: of the mixture.
            before: of the sites that are given; `None` if there are none.
            after: of these and the site.
            units: of these and each unit of the site.
        """

        def said(pair: tuple[np.ndarray, np.ndarray], weight: float) -> np.ndarray:
            return pair[0] - weights.log_mixture(*pair, weight)

        def given(weight: float) -> np.ndarray:
            return np.zeros_like(after[0]) if before is None else said(before, weight)

        with np.errstate(invalid="ignore"):  # infinite bounds, where supports differ
            value, low, high = (said(after, w) - given(w) for w in weights.own)
        first = given(weights.own[0])
        first = first.reshape(*first.shape, *[1] * (units[0].ndim - first.ndim))
        return cls(value, float(low.mean()), float(high.mean()), said(units, weights.own[0]) - first)

    def steadied(self, control: np.ndarray, *, whole: bool) -> Information:
        """With a control variate added where that has the smaller error.

        Args:
            control: of mean zero over draws: KL in closed form minus `log q - log p`. What is left of I_q is then that
                KL minus `log q(z) - log p(z)`, which hardly varies where q(z) is about the prior. Shape
                `[data, draws, *units]`.
            whole: see `estimate`.
        """
        total = control.reshape(*control.shape[:2], -1).sum(2)
        each = _steadier(self.each, self.each + total, whole=whole)
        shift = float(each.mean() - self.each.mean())
        units = self.units
        if units.shape == control.shape:
            units = _steadier(units, units + control, whole=whole)
        return replace(self, each=each, low=self.low + shift, high=self.high + shift, units=units)


def _steadier(a: np.ndarray, b: np.ndarray, *, whole: bool) -> np.ndarray:
    return np.where(std_error(b, whole=whole) < std_error(a, whole=whole), b, a)


def estimate(values: np.ndarray, *, whole: bool) -> Estimate:
    """The mean of `[data, draws]` with its standard error, nats per datum.

    Args:
        values: several draws of each datum.
        whole: whether the data are all that the mean is meant for, so that only the draws are random.
    """
    return Estimate(float(values.mean()), float(std_error(values, whole=whole)))


def std_error(values: np.ndarray, *, whole: bool) -> np.ndarray:
    """The standard error of the mean over the first two axes, see `estimate`."""
    num_data, num_draws = values.shape[:2]
    if whole:
        return np.sqrt(values.var(1, ddof=1).mean(0) / (num_data * num_draws))
    return values.mean(1).std(0, ddof=1) / np.sqrt(num_data)
