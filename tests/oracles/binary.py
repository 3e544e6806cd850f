"""A node of three binary elements that share a cost, and the exact gradient: for estimators with noise of their own.

The expectation of such an estimator is taken over all outcomes of its own noise, which a test forces in place of the
random numbers; it then has to agree with the exact gradient to rounding.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import elbax

LOGITS = np.array([0.7, -1.2, 0.3])
C = np.array([0.5, -1.3, 0.9])
W = np.array([[0.2, -0.4, 0.7], [0.1, 0.3, -0.5], [-0.8, 0.6, 0.1]])

NODES = {
    "logits": lambda a: dist.Bernoulli(logits=a),
    "probs": lambda a: dist.Bernoulli(probs=jax.nn.sigmoid(a)),
    "expanded": lambda a: dist.Bernoulli(logits=a).expand([3]),
    "expanded over a copied axis": lambda a: dist.Bernoulli(logits=a[None]).expand([2, 3]),
    "masked": lambda a: dist.Bernoulli(logits=a).mask(jnp.array([True, False, True])),
    "event": lambda a: dist.Bernoulli(logits=a).to_event(1),
    "masked event": lambda a: dist.Bernoulli(logits=a).to_event(1).mask(jnp.array(False)),
}


def cost(b):
    return jnp.sin(b @ C) + b @ W @ b


def program(logits, node="logits"):
    b = 1.0 * elbax.sample("b", NODES[node](logits))
    return cost(b if b.ndim == 1 else b[0] + 0.0 * b[1])


def three_kinds(logits, node="logits"):
    """Costs that all elements share, that each has alone, and that neighbours share."""
    b = 1.0 * elbax.sample("b", NODES[node](logits))
    elbax.cost("shared", cost(b))
    elbax.cost("own", (b - 0.3) ** 2 * C)
    elbax.cost("neighbours", jnp.exp(b[1:] - 0.6 * b[:-1]))


def three_kinds_cost(b):
    return cost(b) + jnp.sum((b - 0.3) ** 2 * C) + jnp.sum(jnp.exp(b[1:] - 0.6 * b[:-1]))


def exact(logits, cost=cost):
    """The gradient of the expected cost."""
    outcomes = jnp.array(list(itertools.product([0.0, 1.0], repeat=3)))

    def expected(a):
        log_probs = jnp.sum(outcomes * a - jax.nn.softplus(a), axis=1)
        return jnp.exp(log_probs) @ jax.vmap(cost)(outcomes)

    return jax.grad(expected)(jnp.asarray(logits))


def independent(k):
    """All outcomes of `k` independent draws, as noise to add to the logits: `[outcomes, k, elements]`."""
    p = 1 / (1 + np.exp(-LOGITS))
    patterns = np.array(list(itertools.product([-50.0, 50.0], repeat=k)))
    probs = [np.prod(np.where(patterns > 0, one, 1 - one), axis=1) for one in p]
    rows, weights = every([patterns] * 3, probs)
    return np.moveaxis(rows, 2, 1), weights


def every(choices, probs):
    """All combinations of the elements' outcomes, `choices[n][i]` with probability `probs[n][i]` for element `n`."""
    picks = list(itertools.product(*(range(len(p)) for p in probs)))
    rows = np.array([[choices[n][i] for n, i in enumerate(pick)] for pick in picks])
    weights = np.array([np.prod([probs[n][i] for n, i in enumerate(pick)]) for pick in picks])
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-12)
    return rows, weights
