from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax.errors import ConfigError, EstimatorError, SiteMismatchError
from elbax.estimators.plan import make_plan
from tests.oracles import linear_gaussian as lg
from tests.oracles.statistics import assert_mean

NUM_DRAWS = 40_000
FORMS = {
    "analytic": ({"analytic_kl": True}, None),
    "sampled": ({"analytic_kl": False}, None),
    "stick": ({"analytic_kl": False}, elbax.Pathwise(stick=True)),
    "score": ({"analytic_kl": False}, elbax.Score()),
    "score_analytic": ({"analytic_kl": True}, elbax.Score()),
    "averaged": ({"analytic_kl": False, "num_samples": 3}, None),
}


def draws_of(bound, x, estimators, num_draws=NUM_DRAWS):
    """Values and gradients of the loss for many keys."""
    f = elbax.value_and_grad(lambda bound, x: bound(x), estimators)
    return jax.jit(jax.vmap(lambda k: f(k, bound, x)))(jr.split(jr.key(0), num_draws))


@pytest.mark.usefixtures("x64")
class TestLinearGaussian:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("make_guide", [lg.rough_guide, lg.rough_mean_field])
    def test_all_forms_have_the_exact_elbo_as_their_mean(self, form, make_guide):
        options, estimators = FORMS[form]
        model, guide, x = lg.make_model(), make_guide(), lg.make_data()
        values, _ = draws_of(elbax.ELBO(model, guide, **options), x, estimators, 20_000)
        exact = lg.elbo(model, guide, x).sum()
        assert_mean(values, -exact, resolution=0.02)

    @pytest.mark.parametrize("form", FORMS)
    def test_all_forms_have_the_exact_gradient_as_their_mean(self, form):
        options, estimators = FORMS[form]
        model, guide, x = lg.make_model(), lg.rough_mean_field(), lg.make_data()
        _, grads = draws_of(elbax.ELBO(model, guide, **options), x, estimators, NUM_DRAWS)
        exact = jax.grad(lambda pair: -lg.elbo(pair[0], pair[1], x).sum())((model, guide))
        size = float(jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(exact))))
        for g, e in zip(jax.tree.leaves(grads), jax.tree.leaves(exact), strict=True):
            # A dropped term or a flipped sign changes some element by more than half the gradient's length.
            assert_mean(g, e, resolution=0.5, scale=size)

    def test_log_evidence_is_elbo_plus_divergence_to_rounding(self):
        """At the exact posterior every draw of the log-weight is log p(x) itself."""
        model, x = lg.make_model(), lg.make_data()
        guide = lg.exact_guide(model)
        values, grads = draws_of(elbax.ELBO(model, guide, analytic_kl=False), x, elbax.Pathwise(stick=True), 50)
        np.testing.assert_allclose(-values, lg.log_evidence(model, x).sum(), rtol=1e-12)
        np.testing.assert_allclose(lg.kl_to_posterior(model, guide, x), 0.0, atol=1e-12)
        for g in jax.tree.leaves(grads.guide):  # and sticking the landing leaves no noise
            np.testing.assert_allclose(g, 0.0, atol=1e-10)

    def test_sampled_gradient_is_noisy_where_sticking_the_landing_is_not(self):
        model, x = lg.make_model(), lg.make_data()
        bound = elbax.ELBO(model, lg.exact_guide(model), analytic_kl=False)
        _, grads = draws_of(bound, x, elbax.Pathwise(), 50)
        assert grads.guide.tril.std(0).max() > 0.1

    def test_gap_of_a_wrong_guide_is_its_divergence(self):
        model, guide, x = lg.make_model(), lg.rough_guide(), lg.make_data()
        values, _ = draws_of(elbax.ELBO(model, guide, analytic_kl=False), x, None, 20_000)
        gap = lg.log_evidence(model, x).sum() + values
        exact = lg.kl_to_posterior(model, guide, x).sum()
        assert_mean(gap, exact, resolution=0.1)


def names(bound, *args):
    return set(elbax.trace(bound, *args).costs)


class TestExactTerms:
    def test_closed_form_is_named(self):
        model, guide, x = lg.make_model(), lg.rough_mean_field(), lg.make_data()
        assert names(elbax.ELBO(model, guide), x) == {"-log p(x)", "KL(z)"}
        assert names(elbax.ELBO(model, guide, analytic_kl=False), x) == {"-log p(x)", "-log p(z)", "log q(z)"}

    def test_no_closed_form(self):
        model, guide, x = lg.make_model(), lg.rough_guide(), lg.make_data()  # MultivariateNormal against Normal
        assert names(elbax.ELBO(model, guide), x) == {"-log p(x)", "-log p(z)", "log q(z)"}

    def test_bottom_up_guide_of_a_top_down_model(self):
        """z1 is drawn first in the guide and depends on z2 in the model: its KL given z2 would be wrong."""

        def model(x):
            z2 = elbax.sample("z2", dist.Normal(0.0, 1.0))
            z1 = elbax.sample("z1", dist.Normal(z2, 1.0))
            elbax.observe("x", dist.Normal(z1, 1.0), x)

        def guide(x):
            z1 = elbax.sample("z1", dist.Normal(x, 1.0))
            elbax.sample("z2", dist.Normal(z1, 1.0))

        assert names(elbax.ELBO(model, guide), 1.0) == {"-log p(x)", "KL(z2)", "-log p(z1)", "log q(z1)"}

    @pytest.mark.usefixtures("x64")
    def test_filtering_guide_may_take_the_divergence_of_each_step(self):
        """q(z_t | z_<t) against p(z_t | z_{t-1}) in closed form, and right: compared with everything sampled."""

        def model(x):
            def step(z, x):
                z = elbax.sample("z", dist.Normal(0.9 * z, 1.0))
                elbax.observe("x", dist.Normal(z, 0.5), x)
                return z, None

            lax.scan(step, 0.3, x)

        def guide(a, x):
            def step(z, x):
                return elbax.sample("z", dist.Normal(0.5 * z + a * x, 0.7)), None

            lax.scan(step, 0.3, x)

        x = jnp.array([0.4, -1.0, 0.7])
        bounds = [elbax.ELBO(model, eqx.Partial(guide, jnp.array(0.4)), analytic_kl=a) for a in (True, False)]
        assert names(bounds[0], x) == {"-log p(x)", "KL(z)"}
        (exact, exact_g), (sampled, sampled_g) = (draws_of(b, x, None, 100_000) for b in bounds)
        assert_mean(exact - sampled, 0.0, resolution=0.05, scale=1.0)
        difference = exact_g.guide.args[0] - sampled_g.guide.args[0]
        assert_mean(difference, 0.0, resolution=0.1, scale=abs(float(sampled_g.guide.args[0].mean())))

    def test_smoothing_guide_of_all_steps_at_once(self):
        """A mean-field guide in `vmap` of a model in `scan`: no element influences its own parent."""

        def model(x):
            def step(z, x):
                z = elbax.sample("z", dist.Normal(0.9 * z, 1.0))
                elbax.observe("x", dist.Normal(z, 0.5), x)
                return z, None

            lax.scan(step, 0.3, x)

        def guide(x):
            elbax.sample("z", dist.Normal(0.5 * x, 0.7))

        # Loop on one side, batch on the other: not the same lanes, so sampled, and named so.
        assert names(elbax.ELBO(model, guide), jnp.ones(3)) == {"-log p(x)", "-log p(z)", "log q(z)"}


class TestConstructs:
    def test_model_and_guide_under_vmap(self):
        def model(x):
            def one(x):
                z = elbax.sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
                elbax.observe("x", dist.Normal(z.sum(), 1.0), x)

            jax.vmap(one)(x)

        def guide(x):
            jax.vmap(lambda x: elbax.sample("z", dist.Normal(x * jnp.ones(2), 1.0).to_event(1)))(x)

        graph = elbax.trace(elbax.ELBO(model, guide), jnp.ones(4))
        assert str(graph.relation("z", "-log p(x)")) == "(=, mixed)"
        assert set(graph.costs) == {"-log p(x)", "KL(z)"}

    @pytest.mark.usefixtures("x64")
    def test_discrete_latent_by_score_function(self):
        """A two-component mixture: exact ELBO and gradient by hand."""
        logits = jnp.array(0.3)

        def model(x):
            k = elbax.sample("k", dist.Bernoulli(probs=0.3))
            elbax.observe("x", dist.Normal(jnp.where(k == 1, 2.0, -1.0), 1.0), x)

        def guide(logits, x):
            elbax.sample("k", dist.Bernoulli(logits=logits))

        def exact(logits):
            q = jax.nn.sigmoid(logits)
            terms = [
                prob * (jnp.log(prior) + dist.Normal(mean, 1.0).log_prob(0.4) - jnp.log(prob))
                for prob, prior, mean in ((q, 0.3, 2.0), (1 - q, 0.7, -1.0))
            ]
            return -sum(terms)

        values, grads = draws_of(elbax.ELBO(model, eqx.Partial(guide, logits)), jnp.array(0.4), None)
        assert_mean(values, exact(logits), resolution=0.05, scale=1.0)
        assert_mean(grads.guide.args[0], jax.grad(exact)(logits), resolution=0.04, scale=1.0)

    def test_program_is_traced_once_for_equal_shapes(self):
        calls = []

        def model(x):
            calls.append(1)
            z = elbax.sample("z", dist.Normal(0.0, 1.0))
            elbax.observe("x", dist.Normal(z, 1.0), x)

        def guide(a, x):
            elbax.sample("z", dist.Normal(a * x, 1.0))

        bound = elbax.ELBO(model, eqx.Partial(guide, jnp.array(1.0)))
        f = elbax.value_and_grad(lambda bound, x: bound(x))
        f(jr.key(0), bound, 1.0)
        before = len(calls)
        f(jr.key(1), bound, 2.0)
        assert len(calls) == before


def simple_model(x):
    z = elbax.sample("z", dist.Normal(jnp.zeros(2), 1.0))
    elbax.observe("x", dist.Normal(z.sum(), 1.0), x)


class TestErrors:
    def trace(self, model, guide, *args, **options):
        return elbax.trace(elbax.ELBO(model, guide, **options), *args)

    def test_missing_and_surplus_sites(self):
        def guide(x):
            elbax.sample("w", dist.Normal(0.0, 1.0))

        with pytest.raises(SiteMismatchError, match=r"latent 'z' \(test_elbo.py:\d+\) of model `simple_model` has no"):
            self.trace(simple_model, guide, 1.0)
        with pytest.raises(SiteMismatchError, match=r"'w' \(test_elbo.py:\d+\) of guide .* does not exist in model"):
            self.trace(simple_model, guide, 1.0)

    def test_sampled_data(self):
        def guide(x):
            elbax.sample("z", dist.Normal(jnp.zeros(2), 1.0))
            elbax.sample("x", dist.Normal(0.0, 1.0))

        with pytest.raises(SiteMismatchError, match=r"'x' .* is observed in model"):
            self.trace(simple_model, guide, 1.0)

    def test_shapes(self):
        def guide(x):
            elbax.sample("z", dist.Normal(jnp.zeros(3), 1.0))

        with pytest.raises(SiteMismatchError, match=r"'z' .*has shape \(3,\) in the guide and \(2,\) in the model"):
            self.trace(simple_model, guide, 1.0)

    def test_discrete_against_continuous(self):
        def guide(x):
            elbax.sample("z", dist.Bernoulli(logits=jnp.zeros(2)))

        with pytest.raises(SiteMismatchError, match="one is discrete"):
            self.trace(simple_model, guide, 1.0)

    def test_support(self):
        def model(x):
            s = elbax.sample("s", dist.HalfNormal(1.0))
            elbax.observe("x", dist.Normal(0.0, s), x)

        def guide(x):
            elbax.sample("s", dist.Normal(0.0, 1.0))

        with pytest.raises(SiteMismatchError, match="HalfNormal has support Positive"):
            self.trace(model, guide, 1.0)

    def test_observing_guide(self):
        def guide(x):
            elbax.sample("z", dist.Normal(jnp.zeros(2), 1.0))
            elbax.observe("y", dist.Normal(0.0, 1.0), x)

        with pytest.raises(SiteMismatchError, match="observe data in the model"):
            self.trace(simple_model, guide, 1.0)

    def test_scales(self):
        def guide(x):
            elbax.sample("z", dist.Normal(jnp.zeros(2), 1.0), scale=3.0)

        with pytest.raises(SiteMismatchError, match="scale 3 in the guide, 1 in the model"):
            self.trace(simple_model, guide, 1.0)

    @pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
    def test_options(self, value):
        with pytest.raises(ConfigError, match="num_samples must be a whole number"):
            elbax.ELBO(simple_model, simple_model, num_samples=value)


def test_scale_multiplies_log_densities():
    def model(x):
        z = elbax.sample("z", dist.Normal(0.0, 1.0), scale=2.0)
        elbax.observe("x", dist.Normal(z, 1.0), x, scale=2.0)

    def guide(x):
        elbax.sample("z", dist.Normal(0.3, 0.8), scale=2.0)

    plan = make_plan(elbax.ELBO(model, guide, analytic_kl=False), None, (0.5,), {})
    records = plan.run(jr.key(0), plan.graph.arguments.arrays)
    kl = make_plan(elbax.ELBO(model, guide), None, (0.5,), {}).run(jr.key(0), plan.graph.arguments.arrays)
    exact = 2 * dist.kl_divergence(dist.Normal(0.3, 0.8), dist.Normal(0.0, 1.0))
    np.testing.assert_allclose(kl.costs["KL(z)\n0"], exact, rtol=1e-6)
    assert set(records.costs) == {"-log p(x)\n0", "-log p(z)\n0", "log q(z)\n0"}


def test_sticking_the_landing_is_refused_where_the_support_moves():
    """The term that it leaves out, `E d log q / dphi = -1 / phi`, is not zero there."""

    def loss(phi):
        guide = eqx.Partial(lambda phi: elbax.sample("z", dist.Uniform(0.0, phi)), phi)
        return elbax.ELBO(lambda: elbax.sample("z", dist.Normal(1.0, 1.0)), guide, analytic_kl=False)()

    with pytest.raises(
        EstimatorError, match=r"site 'z' .* Pathwise\(stick=True\), but the support of its Uniform moves"
    ):
        elbax.value_and_grad(loss, elbax.Pathwise(stick=True))(jr.key(0), jnp.array(2.0))


@pytest.mark.usefixtures("x64")
def test_sticking_the_landing_keeps_the_jacobian_of_an_auxiliary_draw():
    """What autoguides do: a Delta at a function of an auxiliary draw; by quadrature over the noise of that one."""

    def guide(phi):
        u = elbax.sample("u", dist.Normal(phi[0], jnp.exp(phi[1])), auxiliary=True)
        elbax.sample("z", dist.Delta(jnp.exp(u), log_density=-u))

    def loss(phi):
        model = lambda: elbax.sample("z", dist.Gamma(2.0, 1.0))  # noqa: E731
        return elbax.ELBO(model, eqx.Partial(guide, phi), analytic_kl=False)()

    def mean_gradient(estimators):
        def one(noise):
            with mock.patch.object(jax.random, "normal", return_value=noise):
                return elbax.value_and_grad(loss, estimators)(jr.key(0), jnp.array([0.3, -0.4]))[1]

        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        return weights / weights.sum() @ jax.vmap(one)(jnp.asarray(nodes))

    np.testing.assert_allclose(mean_gradient(elbax.Pathwise(stick=True)), mean_gradient(None), rtol=1e-9)
