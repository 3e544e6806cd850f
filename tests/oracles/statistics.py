"""Tests of means from samples, with both error rates stated.

A test asks whether estimates have the expectation that they should have. Each element of the mean is compared with
its exact value in units of its standard error. `false_failure` is the probability that any element fails although all
are right (Bonferroni); `miss` is the probability that a bias of the size `smallest_bias` would pass. The smallest bias
that the test sees is asserted to be a small fraction of the gradient, so that a test with too few samples, which would
see nothing, fails.

The estimates are assumed to have finite variance, and their number to be large enough for the mean to be normal.
"""

from dataclasses import dataclass
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np

FALSE_FAILURE = 1e-6
MISS = 1e-3


@dataclass(frozen=True)
class MeanTest:
    """The outcome of a test: `z` per element, the limit for it, and the smallest bias that would have been seen."""

    mean: np.ndarray
    z: np.ndarray
    limit: float
    smallest_bias: np.ndarray

    @property
    def passes(self):
        return bool(np.all(np.abs(self.z) < self.limit))


def z_limit(num_elements, false_failure=FALSE_FAILURE):
    """Largest absolute z value that passes."""
    return -NormalDist().inv_cdf(false_failure / (2 * num_elements))


def mean_test(samples, exact, false_failure=FALSE_FAILURE, miss=MISS):
    """Compares the mean of `samples`, over their first axis, with `exact`."""
    samples, exact = np.asarray(samples, np.float64), np.asarray(exact, np.float64)
    samples = samples.reshape(len(samples), -1)
    exact = np.broadcast_to(exact, samples.shape[1:] if exact.ndim == 0 else exact.shape).reshape(-1)
    mean, error = samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))
    # An element without any spread must be exact to rounding.
    floor = 1e-12 * (1 + np.abs(exact))
    limit = z_limit(samples.shape[1], false_failure)
    z = (mean - exact) / np.maximum(error, floor)
    return MeanTest(mean, z, limit, (limit - NormalDist().inv_cdf(miss)) * error)


def assert_mean(samples, exact, *, resolution, scale=None):
    """Asserts that samples have the mean `exact`, and that a bias of `resolution` times `scale` would have been seen.

    `scale` is the size of what is estimated; by default the norm of `exact`.
    """
    outcome = mean_test(samples, exact)
    size = float(np.linalg.norm(exact)) if scale is None else scale
    seen = float(outcome.smallest_bias.max())
    assert seen < resolution * size, f"sees only biases above {seen / size:.3g} of the gradient: draw more samples"
    assert outcome.passes, (
        f"z = {outcome.z} (limit {outcome.limit:.2f}), mean {outcome.mean}, exact {np.asarray(exact)}"
    )
    return outcome


def repeat(fn, num, key=None, batch=None):
    """`fn(key)` for `num` independent keys, in batches."""
    key = jax.random.key(0) if key is None else key
    batch = min(batch or num, num)
    mapped = jax.jit(jax.vmap(fn))
    keys = jax.random.split(key, (num // batch, batch))
    parts = [jax.device_get(mapped(k)) for k in keys]
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def gradients(program, args, num, *, estimators=None, argnums=0, batch=None):
    """Gradient estimates of `num` independent runs, flat."""
    import elbax

    run = elbax.value_and_grad(program, estimators, argnums=argnums)

    def one(key):
        leaves = jax.tree.leaves(run(key, *args)[1])
        return jnp.concatenate([jnp.ravel(x) for x in leaves])

    return repeat(one, num, batch=batch)
