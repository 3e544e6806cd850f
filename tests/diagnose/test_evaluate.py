import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.diagnose.estimate import Estimate, bits_per_dim, mean_of
from elbax.errors import ConfigError, DataError, ProgramError
from tests.oracles import linear_gaussian as lg
from tests.oracles.statistics import assert_mean


@pytest.mark.usefixtures("x64")
class TestLinearGaussian:
    def evaluate(self, guide, num_particles, n=30, **options):
        model, x = lg.make_model(), lg.make_data(n)
        return model, x, elbax.evaluate(model, guide, x, key=jr.key(0), num_particles=num_particles, **options)

    @pytest.mark.parametrize("batch_size", [7, 30, 100])
    def test_exact_at_the_posterior(self, batch_size):
        """All log-weights equal log p(x): for any number of particles, batch size, and rest."""
        guide = lg.exact_guide(lg.make_model())
        model, x, e = self.evaluate(guide, 5, batch_size=batch_size)
        exact = np.asarray(lg.log_evidence(model, x))
        np.testing.assert_allclose(e.elbo_per_datum, exact, rtol=1e-9)
        np.testing.assert_allclose(e.iwae_per_datum, exact, rtol=1e-9)
        np.testing.assert_allclose(e.ess_per_datum, 5.0, rtol=1e-6)
        assert e.elbo.value == pytest.approx(exact.mean())
        assert e.elbo.std_error == pytest.approx(exact.std(ddof=1) / np.sqrt(30))
        assert e.num_data == 30
        assert e.num_dims == 3

    def test_brackets_the_evidence_from_below(self):
        """ELBO to its exact value, IWAE between it and the evidence; 20,000 particles in chunks and a rest."""
        guide = lg.rough_guide()
        model, x, e = self.evaluate(guide, 20_001, n=4)
        np.testing.assert_allclose(e.elbo_per_datum, lg.elbo(model, guide, x), atol=0.1)
        np.testing.assert_allclose(e.iwae_per_datum, lg.log_evidence(model, x), atol=0.05)
        assert (e.iwae_per_datum >= e.elbo_per_datum).all()
        assert e.gap.value == pytest.approx(e.iwae.value - e.elbo.value)

    @pytest.mark.slow
    def test_elbo_estimate_is_unbiased(self):
        model, x, guide = lg.make_model(), lg.make_data(2), lg.rough_mean_field()
        values = [elbax.evaluate(model, guide, x, key=jr.key(k), num_particles=50).elbo_per_datum for k in range(100)]
        assert_mean(np.array(values), lg.elbo(model, guide, x), resolution=0.3, scale=1.0)


def test_units():
    e = bits_per_dim(Estimate(-90.0, 0.9), 784)
    assert e.value == pytest.approx(90 / (784 * np.log(2)))
    assert e.std_error == pytest.approx(0.9 / (784 * np.log(2)))
    assert e.unit == "bits per dimension"
    assert str(Estimate(-90.123, 0.5)) == "-90.12 ± 0.50 nats per datum"
    assert mean_of(np.array([1.0, 3.0])).std_error == pytest.approx(1.0)


class TestLatents:
    def test_kl_and_activity_by_hand(self):
        """Unit 0 follows the data, unit 1 is the prior."""

        def model(x):
            z = elbax.sample("z", dist.Normal(jnp.zeros((x.shape[0], 2)), 1.0).to_event(1))
            elbax.observe("x", dist.Normal(z[:, 0], 1.0), x)

        def guide(a, x):
            loc = jnp.stack([a * x, jnp.zeros_like(x)], -1)
            elbax.sample("z", dist.Normal(loc, jnp.array([0.5, 1.0])).to_event(1))

        x = np.linspace(-1.0, 2.0, 40).astype(np.float32)
        (summary,) = elbax.latent_summary(model, eqx.Partial(guide, jnp.array(0.8)), x, key=jr.key(0), batch_size=10)
        loc = 0.8 * x
        kl = (0.5 * (loc**2 + 0.25 - 1) - np.log(0.5)).mean()
        np.testing.assert_allclose(summary.kl, [kl, 0.0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(summary.mean_variance, [loc.var(), 0.0], rtol=1e-5)
        assert summary.active.tolist() == [True, False]
        assert summary.num_active == 1
        assert summary.exact
        assert summary.as_dict()["active_units"] == 1

    def test_sampled_kl_where_there_is_no_closed_form(self):
        def model(x):
            z = elbax.sample("z", dist.Laplace(jnp.zeros(x.shape), 1.0))
            elbax.observe("x", dist.Normal(z, 1.0), x)

        def guide(a, x):
            elbax.sample("z", dist.Normal(a * x, 0.5))

        (summary,) = elbax.latent_summary(
            model, eqx.Partial(guide, jnp.array(0.8)), np.linspace(-1, 1, 40).astype(np.float32), key=jr.key(0)
        )
        assert not summary.exact
        assert summary.kl.shape == ()


class TestErrors:
    def test_particles(self):
        with pytest.raises(ConfigError, match="num_particles must be at least 1"):
            elbax.evaluate(lg.make_model(), lg.rough_guide(), lg.make_data(), key=jr.key(0), num_particles=0)

    def test_data(self):
        pair = lg.make_model(), lg.rough_guide()
        with pytest.raises(DataError, match="empty"):
            elbax.evaluate(*pair, np.zeros((0, 3), np.float32), key=jr.key(0))
        with pytest.raises(DataError, match="NaN"):
            elbax.evaluate(*pair, np.full((2, 3), np.nan, np.float32), key=jr.key(0))

    def test_shared_latent(self):
        def model(x):
            mu = elbax.sample("mu", dist.Normal(0.0, 1.0))
            elbax.observe("x", dist.Normal(mu, 1.0), x)

        def guide(x):
            elbax.sample("mu", dist.Normal(0.3, 1.0))

        with pytest.raises(ProgramError, match="shared by all data"):
            elbax.evaluate(model, guide, np.ones(4, np.float32), key=jr.key(0))
