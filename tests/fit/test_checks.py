import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.errors import DataError
from elbax.fit.checks import check_observed


def bernoulli(x):
    z = elbax.sample("z", dist.Normal(0.0, 1.0).expand([len(x)]))
    elbax.observe("x", dist.Bernoulli(logits=z[:, None] + jnp.zeros(x.shape)), x)


def guide(scale, x):
    elbax.sample("z", dist.Normal(jnp.zeros(len(x)), scale))


def refused(model, data, match, **options):
    with pytest.raises(DataError, match=match):
        check_observed(model, data, "data", **options)


class TestObserved:
    def test_pixels_of_bytes(self):
        """`fit` names the site, its line, the rows and the range, before anything is compiled."""
        pixels = np.random.default_rng(0).integers(0, 256, (30, 4)).astype(np.float32)
        with pytest.raises(
            DataError,
            match=r"site 'x' \(.*test_checks.py:18\) is Bernoulli: its values are numbers from 0 to 1, but \d+ of the "
            r"120 values in rows 0 to 29 of data are not \(those range from [1-9]\d* to 25\d\)",
        ):
            elbax.fit(bernoulli, eqx.Partial(guide, 1.0 * jnp.ones(())), pixels, key=jr.key(0))

    def test_validation_data_and_evaluation(self):
        good, bad = np.ones((3, 2), np.float32), np.full((3, 2), -0.5, np.float32)
        q = eqx.Partial(guide, jnp.ones(()))
        with pytest.raises(DataError, match=r"6 of the 6 values in rows 0 to 2 of valid are not .*-0.5 to -0.5"):
            elbax.fit(bernoulli, q, good, valid=bad, key=jr.key(0))
        with pytest.raises(DataError, match=r"of data are not"):
            elbax.evaluate(bernoulli, q, bad, key=jr.key(0))

    def test_what_prepare_makes_of_them_counts(self):
        pixels = np.full((3, 2), 255.0, np.float32)
        check_observed(bernoulli, pixels, "data", lambda key, x: x / 255)
        refused(bernoulli, np.ones((3, 2), np.float32), "is Bernoulli", prepare=lambda key, x: 2 * x)

    def test_gray_values_of_a_bernoulli_are_its_cross_entropy(self):
        check_observed(bernoulli, np.random.default_rng(0).random((5, 3)).astype(np.float32), "data")

    def test_rows_are_named_where_data_are_large(self, monkeypatch):
        monkeypatch.setattr(sys.modules["elbax.fit.checks"], "AT_ONCE", 20)
        x = np.zeros((25, 2), np.float32)
        x[23, 1] = 3
        refused(bernoulli, x, r"1 of the 10 values in rows 20 to 24 of data .*from 3 to 3\)")

    @pytest.mark.parametrize(
        ("distribution", "values", "match"),
        [
            (lambda x: dist.Poisson(jnp.ones(x.shape)), [0, 3, 2.5], "integers from 0, but 1 of the 3 values"),
            (lambda x: dist.Poisson(jnp.ones(x.shape)), [0, 3, -1], "but 1 of the 3 values"),
            (lambda x: dist.Gamma(jnp.ones(x.shape)), [0.5, -1.0, 2.0], "numbers above 0"),
            (lambda x: dist.Categorical(logits=jnp.zeros((*x.shape, 3))), [0, 1, 3], "integers from 0 to 2"),
            (lambda x: dist.Beta(jnp.ones(x.shape), 2.0), [0.1, 0.2, 1.2], "numbers from 0 to 1"),
            (lambda x: dist.Dirichlet(jnp.ones(x.shape)), [[0.2, 0.8], [0.2, 0.9]], "of kind simplex"),
        ],
    )
    def test_supports(self, distribution, values, match):
        def model(x):
            d = distribution(x)
            elbax.observe("x", d, x if x.dtype == float or "Categ" not in str(type(d)) else x.astype(int))

        refused(model, np.array(values, np.float32), match)

    def test_sites_in_scan_and_under_vmap(self):
        def model(x):
            def step(z, x_t):
                z = elbax.sample("z", dist.Normal(0.5 * z, 1.0))
                elbax.observe("x", dist.Poisson(jnp.exp(z)), x_t)
                return z, None

            jax.lax.scan(step, 0.0, x)

        x = np.ones((4, 6), np.float32)
        check_observed(lambda x: jax.vmap(model)(x), x, "data")
        x[2, 3] = -1
        refused(lambda x: jax.vmap(model)(x), x, "site 'x' .* is Poisson: .* 1 of the 24 values")

    def test_elements_under_a_mask_may_be_anything(self):
        def model(x):
            elbax.observe("x", dist.Poisson(jnp.ones(x.shape)).mask(x >= 0), x)

        check_observed(model, np.array([1.0, -1.0], np.float32), "data")

    @pytest.mark.parametrize(
        "distribution",
        [
            lambda x: dist.Poisson(1.0),
            lambda x: dist.Poisson(1.0).expand([3]),
            lambda x: dist.Poisson(jnp.ones(3)).expand(x.shape),
            lambda x: dist.Poisson(jnp.ones(3)).to_event(1),
            lambda x: dist.Poisson(1.0).expand([3]).to_event(1).mask(mask=True),
        ],
    )
    def test_distributions_that_data_broadcast_over(self, distribution):
        def model(x):
            elbax.observe("x", distribution(x), x)

        check_observed(model, np.ones((4, 3), np.float32), "data")
        refused(model, np.array([[1.0, 1.0, 2.0], [0.0, -1.0, 3.0]], np.float32), "of the 6 values")

    def test_supports_that_depend_on_latents_are_not_looked_at(self):
        def model(x):
            z = elbax.sample("z", dist.Gamma(2.0, 1.0))
            elbax.observe("x", dist.Uniform(0.0, z).expand(x.shape), x)

        check_observed(model, np.array([5.0, 900.0], np.float32), "data")

    def test_no_data(self):
        check_observed(bernoulli, None, "data")
