import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.bounds.weights import log_weight_function
from elbax.errors import ConfigError, EstimatorError, ProgramError
from tests.oracles import linear_gaussian as lg
from tests.oracles.statistics import assert_mean


def draws_of(bound, x, num_draws, estimators=None):
    f = elbax.value_and_grad(lambda bound, x: bound(x), estimators)
    return jax.jit(jax.vmap(lambda k: f(k, bound, x)))(jr.split(jr.key(0), num_draws))


@pytest.mark.usefixtures("x64")
class TestLinearGaussian:
    def test_lies_between_elbo_and_evidence_and_rises(self):
        model, guide, x = lg.make_model(), lg.rough_guide(), lg.make_data()
        means = []
        for k in (1, 5, 50):
            values, _ = draws_of(elbax.IWAE(model, guide, num_particles=k), x, 4000)
            means.append(-values.mean())
        evidence = lg.log_evidence(model, x).sum()
        assert lg.elbo(model, guide, x).sum() - 0.2 < means[0] < means[1] < means[2] < evidence + 0.02

    def test_gap_falls_as_the_variance_of_the_weights_over_twice_k(self):
        """K (log p - L_K) -> Var(w / p) / 2; a guide wider than the posterior keeps that variance finite."""
        model, x = lg.make_model(), lg.make_data(1)
        gain, cov = lg.posterior(model)
        guide = lg.FullGuide(gain, model.offset, jnp.linalg.cholesky(1.5 * cov))
        q = lg.guide_distribution(guide, x)
        p = dist.MultivariateNormal((x - model.offset) @ gain.T, covariance_matrix=cov)
        z = q.sample(jr.key(1), (400_000,))
        variance = float(jnp.var(jnp.exp(p.log_prob(z) - q.log_prob(z))))
        k = 20
        values, _ = draws_of(elbax.IWAE(model, guide, num_particles=k), x, 160_000)
        gap = k * (lg.log_evidence(model, x).sum() + values)
        # The limit is half the variance; terms of order 1/K shift it by a few percent.
        assert abs(gap.mean() - variance / 2) < 0.25 * variance
        assert_mean(gap, gap.mean(), resolution=0.3, scale=variance)

    def test_equals_the_evidence_at_the_exact_posterior(self):
        model, x = lg.make_model(), lg.make_data()
        values, _ = draws_of(elbax.IWAE(model, lg.exact_guide(model), num_particles=3), x, 10)
        np.testing.assert_allclose(-values, lg.log_evidence(model, x).sum(), rtol=1e-12)

    def test_one_particle_is_the_sampled_elbo(self):
        model, guide, x = lg.make_model(), lg.rough_mean_field(), lg.make_data()
        values, grads = draws_of(elbax.IWAE(model, guide, num_particles=1), x, 20_000)
        exact = lg.elbo(model, guide, x).sum()
        assert_mean(values, -exact, resolution=0.05)
        exact_g = jax.grad(lambda pair: -lg.elbo(pair[0], pair[1], x).sum())((model, guide))
        size = float(jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(exact_g))))
        for g, e in zip(jax.tree.leaves(grads), jax.tree.leaves(exact_g), strict=True):
            assert_mean(g, e, resolution=0.5, scale=size)

    @pytest.mark.parametrize("estimators", [None, elbax.Score()], ids=["pathwise", "score"])
    def test_gradient_is_that_of_the_expected_bound(self, estimators):
        """Both estimators agree with finite differences of the bound by quadrature (one datum, one latent, K = 2)."""

        def model(x):
            z = elbax.sample("z", dist.Normal(jnp.zeros(1), 1.0))
            elbax.observe("x", dist.Normal(z, 0.8), x)

        def guide(phi, x):
            elbax.sample("z", dist.Normal(phi[0] * x, jnp.exp(phi[1])))

        x, phi = jnp.array([0.7]), jnp.array([0.3, -0.2])

        def expected(phi):
            nodes, weights = np.polynomial.hermite_e.hermegauss(60)
            nodes, weights = jnp.asarray(nodes), jnp.asarray(weights / weights.sum())
            q = dist.Normal(phi[0] * x, jnp.exp(phi[1]))
            z = q.loc + q.scale * nodes
            log_w = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 0.8).log_prob(x) - q.log_prob(z)
            pairs = jnp.logaddexp(log_w[:, None], log_w[None, :]) - jnp.log(2.0)
            return -(weights[:, None] * weights[None, :] * pairs).sum()

        bound = elbax.IWAE(model, eqx.Partial(guide, phi), num_particles=2)
        values, grads = draws_of(bound, x, 200_000, estimators)
        exact = jax.grad(expected)(phi)
        assert_mean(values, expected(phi), resolution=0.01, scale=1.0)
        assert_mean(grads.guide.args[0], exact, resolution=0.35)


class TestPerDatum:
    def test_batched_and_vmapped_programs_have_the_same_weights(self):
        def one_model(x):
            z = elbax.sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
            elbax.observe("x", dist.Normal(z.sum(), 1.0), x)

        def one_guide(x):
            elbax.sample("z", dist.Normal(jnp.stack([x, -x]), 1.0).to_event(1))

        bound = elbax.IWAE(jax.vmap(one_model), jax.vmap(one_guide), num_particles=4)
        graph = elbax.trace(bound, jnp.ones(3))
        assert graph.nodes["-IWAE"].shape == (3,)
        relation = graph.relation("z", "-IWAE")
        assert relation is not None
        assert relation.axes[1:] == ("mixed", "=", "mixed")

    def test_sum_over_the_data_is_split_again(self):
        """A model that states one number for the whole batch still has a weight for each datum."""
        x = jnp.array([0.3, -1.0, 2.0])

        def model(x):
            z = elbax.sample("z", dist.Normal(jnp.zeros(3), 1.0))
            elbax.cost("all", -dist.Normal(z, 1.0).log_prob(x).sum())

        def guide(x):
            elbax.sample("z", dist.Normal(0.5 * x, 0.8))

        bound = elbax.ELBO(model, guide, analytic_kl=False)
        f = log_weight_function(model, guide, (x,))
        log_w = f(jr.key(0), bound, (x,))
        assert log_w.shape == (3,)
        moved = f(jr.key(0), bound, (x.at[1].add(1.0),))
        assert (np.asarray(moved != log_w) == [False, True, False]).all()

    def test_shared_latents_are_refused(self):
        def model(x):
            z = elbax.sample("z", dist.Normal(0.0, 1.0))
            elbax.observe("x", dist.Normal(z, 1.0), x)

        def guide(x):
            elbax.sample("z", dist.Normal(0.3, 1.0))

        with pytest.raises(ProgramError, match=r"IWAE needs the weight of each datum, but cost .* does not depend on"):
            elbax.trace(elbax.IWAE(model, guide, num_particles=2), jnp.ones(3))

    def test_batch_normalisation_is_refused(self):
        def model(x):
            z = elbax.sample("z", dist.Normal(jnp.zeros(3), 1.0))
            elbax.observe("x", dist.Normal(z - z.mean(), 1.0), x)

        def guide(x):
            elbax.sample("z", dist.Normal(x, 1.0))

        # The mean mixes the data in the weights of each; nothing of the model belongs to one datum any more.
        with pytest.raises(ProgramError, match="mixes the data"):
            elbax.trace(elbax.IWAE(model, guide, num_particles=2), jnp.ones(3))


def test_sticking_the_landing_is_refused_with_several_particles():
    model, guide, x = lg.make_model(), lg.rough_guide(), lg.make_data()
    f = elbax.value_and_grad(lambda bound, x: bound(x), elbax.Pathwise(stick=True))
    with pytest.raises(EstimatorError, match="several particles inside the logarithm"):
        f(jr.key(0), elbax.IWAE(model, guide, num_particles=2), x)


def test_options():
    with pytest.raises(ConfigError, match="num_particles must be a whole number of at least 1; got 0"):
        elbax.IWAE(lambda x: None, lambda x: None, num_particles=0)
