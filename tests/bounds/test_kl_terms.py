import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import elbax
from elbax.errors import ConfigError, ProgramError

LOC, SCALE = np.array([0.9, 0.05]), np.array([0.5, 1.0])
X = np.array([1.0, 0.4, -0.7])


def model(x):
    z = elbax.sample("z", dist.Normal(jnp.zeros((x.shape[0], 2)), 1.0))
    elbax.observe("x", dist.Normal(z.sum(1), 0.7), x)


def guide(phi, x):
    elbax.sample("z", dist.Normal(x[:, None] * phi, jnp.asarray(SCALE)))


def kl_per_unit(phi=LOC):
    """KL of every datum and unit, in closed form."""
    loc = X[:, None] * phi
    return 0.5 * (loc**2 + SCALE**2 - 1) - np.log(SCALE)


def costs_and_grad(kl, **options):
    bound = elbax.ELBO(model, eqx.Partial(guide, jnp.asarray(LOC)), kl=kl, **options)
    f = elbax.surrogate(lambda b, x: b(x))
    plan, arrays = f.plan((bound, jnp.asarray(X)), {})
    _, outcome = plan.estimate(jr.key(0), arrays, {})
    grads = jax.grad(lambda phi: f(jr.key(0), eqx.tree_at(lambda b: b.guide.args[0], bound, phi), jnp.asarray(X)))(LOC)
    return outcome.costs, grads


def part_of_kl(kl, **options):
    """The gradient that the KL terms add: with them, less without."""
    return costs_and_grad(kl, **options)[1] - costs_and_grad(elbax.BetaKL(0.0), **options)[1]


@pytest.mark.usefixtures("x64")
class TestCosts:
    def test_beta(self):
        costs, _ = costs_and_grad(elbax.BetaKL(4.0))
        assert set(costs) == {"-log p(x)", "beta KL(z)"}
        np.testing.assert_allclose(costs["beta KL(z)"], 4 * kl_per_unit().sum(), rtol=1e-7)
        np.testing.assert_allclose(part_of_kl(elbax.BetaKL(4.0)), 4 * (X[:, None] ** 2 * LOC).sum(0), rtol=1e-6)

    def test_beta_of_one_is_the_elbo(self):
        for options in ({}, {"analytic_kl": False}, {"num_samples": 3}):
            weighed, grads = costs_and_grad(elbax.BetaKL(1.0), **options)
            plain, plain_grads = costs_and_grad(None, **options)
            np.testing.assert_allclose(sum(weighed.values()), sum(plain.values()), rtol=1e-12)
            np.testing.assert_allclose(grads, plain_grads, rtol=1e-12)

    def test_beta_weighs_sampled_terms(self):
        costs, _ = costs_and_grad(elbax.BetaKL(0.5), analytic_kl=False)
        plain, _ = costs_and_grad(None, analytic_kl=False)
        assert set(costs) == {"-log p(x)", "beta log q(z)", "beta -log p(z)"}
        np.testing.assert_allclose(costs["beta log q(z)"], plain["log q(z)"] / 2, rtol=1e-12)

    def test_free_bits_take_the_mean_of_the_batch_first(self):
        mean = kl_per_unit().mean(0)
        between = 0.5 * (kl_per_unit()[:, 0].min() + mean[0])  # a datum is below, the mean is above
        assert kl_per_unit()[:, 0].min() < between < mean[0]
        costs, _ = costs_and_grad(elbax.FreeBits(between))
        np.testing.assert_allclose(costs["free bits KL(z)"], 3 * (mean[0] + between), rtol=1e-7)
        # The first unit has its whole gradient, that of every datum; the second is free.
        expected = [(X**2 * LOC[0]).sum(), 0.0]
        np.testing.assert_allclose(part_of_kl(elbax.FreeBits(between)), expected, rtol=1e-6, atol=1e-9)

    def test_free_bits_of_a_group(self):
        total = kl_per_unit().sum(1).mean()
        for nats, expected in ((0.9 * total, total), (1.1 * total, 1.1 * total)):
            costs, _ = costs_and_grad(elbax.FreeBits(nats, group=True))
            np.testing.assert_allclose(costs["free bits KL(z)"], 3 * expected, rtol=1e-7)

    @pytest.mark.parametrize("side", [-0.1, 0.1])
    def test_capacity(self, side):
        total = kl_per_unit().sum(1).mean()
        kl = elbax.Capacity(total + side, weight=20.0)
        np.testing.assert_allclose(costs_and_grad(kl)[0]["capacity"], 3 * 20 * 0.1, rtol=1e-6)
        np.testing.assert_allclose(part_of_kl(kl), -np.sign(side) * 20 * (X[:, None] ** 2 * LOC).sum(0), rtol=1e-6)

    def test_latents_that_all_data_share(self):
        def shared_model(x):
            w = elbax.sample("w", dist.Normal(0.0, 1.0))
            elbax.observe("x", dist.Normal(w, 1.0), x)

        bound = elbax.ELBO(shared_model, lambda x: elbax.sample("w", dist.Normal(2.0, 1.0)), kl=elbax.FreeBits(0.5))
        f = elbax.surrogate(lambda b, x: b(x))
        plan, arrays = f.plan((bound, jnp.asarray(X)), {})
        np.testing.assert_allclose(plan.estimate(jr.key(0), arrays, {})[1].costs["free bits KL(w)"], 2.0)


class TestSchedules:
    def test_cyclic(self):
        schedule = elbax.Cyclic(100, num_cycles=2, ramp=0.5)
        np.testing.assert_allclose(
            [schedule(t) for t in (0, 5, 25, 40, 50, 55, 99, 100, 2**31 - 1)], [0, 0.2, 1, 1, 0, 0.2, 1, 1, 1]
        )

    def test_outside_training_it_is_at_its_end(self):
        for schedule in (optax.linear_schedule(0.0, 3.0, 1000), elbax.Cyclic(1000)):
            costs, _ = costs_and_grad(elbax.BetaKL(schedule))
            np.testing.assert_allclose(costs["beta KL(z)"], schedule(2**31 - 1) * kl_per_unit().sum(), rtol=1e-5)

    def test_steps_of_a_fit_move_it(self):
        """Without a likelihood term, beta is what is left of the costs."""
        phi = eqx.Partial(guide, jnp.asarray(LOC, jnp.float32))
        fit = elbax.fit(
            model,
            phi,
            X.astype(np.float32),
            key=jr.key(0),
            bound=lambda m, g: elbax.ELBO(m, g, kl=elbax.BetaKL(optax.linear_schedule(0.0, 1.0, 10))),
            optimizer=optax.sgd(0.0),
            max_steps=20,
            log_every=5,
            validate_every=5,
            valid=X.astype(np.float32),
            stopping=elbax.Stopping(None, None, None),
        )
        whole = kl_per_unit().sum() / 3
        betas = [row.costs["beta KL(z)"] / whole for row in fit.history]
        np.testing.assert_allclose(betas, [0.2, 0.7, 1.0, 1.0], rtol=1e-4)
        validated = [row.valid_costs["beta KL(z)"] for row in fit.history if row.valid_bound is not None]
        assert validated
        np.testing.assert_allclose(validated, whole, rtol=1e-4)
        assert fit.exact_terms == ("z",)


class TestRefusals:
    def test_no_closed_form(self):
        def heavy(x):
            z = elbax.sample("z", dist.StudentT(5.0, jnp.zeros_like(x), 1.0))
            elbax.observe("x", dist.Normal(z, 1.0), x)

        bound = elbax.ELBO(heavy, lambda x: elbax.sample("z", dist.Normal(x, 1.0)), kl=elbax.FreeBits(0.1))
        with pytest.raises(ProgramError, match=r"site 'z' \(test_kl_terms.py:\d+.*no closed form for KL"):
            elbax.trace(bound, jnp.asarray(X))

    def test_options(self):
        with pytest.raises(ConfigError, match="Leave out `analytic_kl`"):
            elbax.ELBO(model, guide, kl=elbax.Capacity(3.0), analytic_kl=False)
        with pytest.raises(ConfigError, match=r"BetaKL\(beta=-1.0\): must be a number of at least 0 or a schedule"):
            elbax.BetaKL(-1.0)
        with pytest.raises(ConfigError, match=r"FreeBits\(nats=True\)"):
            elbax.FreeBits(True)
        with pytest.raises(ConfigError, match="a ramp above 0"):
            elbax.Cyclic(100, ramp=0.0)
