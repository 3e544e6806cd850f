import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elbax.bounds import log_weights as lw
from elbax.bounds.log_weights import effective_sample_size, elbo, iwae
from tests.oracles import one_gaussian as og

LOG_W = jnp.array([[0.0, -1.0], [1.0, -2.0], [-0.5, 3.0]])
PARTITION = (0.0, 0.1, 0.4, 1.0)

BOUNDS = {
    "elbo": elbo,
    "iwae": iwae,
    "ciwae": lambda w: lw.ciwae(w, 0.3),
    "renyi(0.5)": lambda w: lw.renyi(w, 0.5),
    "renyi(2)": lambda w: lw.renyi(w, 2.0),
    "renyi(-1)": lambda w: lw.renyi(w, -1.0),
    "vr_max": lw.vr_max,
    "cubo": lambda w: lw.cubo(w, 2.0),
    "eubo": lw.eubo,
    "tvo_lower": lambda w: lw.tvo_lower(w, PARTITION),
    "tvo_upper": lambda w: lw.tvo_upper(w, PARTITION),
}


def test_values_by_hand():
    w = np.exp(np.asarray(LOG_W))
    np.testing.assert_allclose(elbo(LOG_W), np.asarray(LOG_W).mean(0), rtol=1e-6)
    np.testing.assert_allclose(iwae(LOG_W), np.log(w.mean(0)), rtol=1e-6)
    np.testing.assert_allclose(effective_sample_size(LOG_W), w.sum(0) ** 2 / (w**2).sum(0), rtol=1e-5)


@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_one_particle_is_the_elbo(bound):
    np.testing.assert_allclose(bound(LOG_W[:1]), elbo(LOG_W[:1]), rtol=1e-6)


@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_no_overflow(bound, shift):
    np.testing.assert_allclose(bound(LOG_W + shift), bound(LOG_W) + shift, rtol=1e-6)


@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_equal_weights_give_the_evidence(bound):
    """At the exact posterior every weight is p(x)."""
    np.testing.assert_allclose(bound(jnp.full((5, 2), -3.7)), -3.7, rtol=1e-6)


@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_gradients_add_up_to_one(bound):
    """Multiplying all weights by a number adds its logarithm to the bound."""
    np.testing.assert_allclose(jax.grad(lambda w: bound(w).sum())(LOG_W).sum(0), 1.0, rtol=1e-5)


def test_no_weight_at_all():
    assert iwae(jnp.full((4,), -jnp.inf)) == -jnp.inf


def test_a_particle_without_weight():
    log_w = jnp.array([0.3, -jnp.inf, 1.0])
    np.testing.assert_allclose(lw.eubo(log_w), lw.eubo(log_w[jnp.array([0, 2])]), rtol=1e-6)
    assert jnp.isfinite(jax.grad(lw.eubo)(log_w)).all()
    assert elbo(log_w) == -jnp.inf


def test_renyi_is_a_family():
    np.testing.assert_array_equal(lw.renyi(LOG_W, 0.0), iwae(LOG_W))
    np.testing.assert_array_equal(lw.renyi(LOG_W, 1.0), elbo(LOG_W))
    np.testing.assert_array_equal(lw.renyi(LOG_W, -np.inf), lw.vr_max(LOG_W))
    np.testing.assert_array_equal(lw.renyi(LOG_W, np.inf), LOG_W.min(0))
    values = np.stack([lw.renyi(LOG_W, a) for a in (-np.inf, -3.0, 0.0, 0.5, 1.0, 2.0, np.inf)])
    assert (np.diff(values, axis=0) < 0).all()


@pytest.mark.usefixtures("x64")
class TestManyParticles:
    """With an even grid of the quantiles of q for particles, the bounds are integrals over q."""

    def log_w(self, num=100_000):
        quantiles = (jnp.arange(num) + 0.5) / num
        q = og.guide_distribution(og.PHI)
        return og.log_weight(og.THETA, og.PHI, q.icdf(quantiles))

    @pytest.mark.parametrize("alpha", [-1.0, -0.3, 0.0, 0.5, 1.0, 2.0])
    def test_renyi_and_cubo(self, alpha):
        """`log p(x) - D_alpha(q || p(z | x))`, the divergence of two Gaussians in closed form."""
        phi, exact = og.PHI, og.exact_phi()
        q, p = og.guide_distribution(phi), og.guide_distribution(exact)
        if alpha == 1:
            divergence = jnp.log(p.scale / q.scale) + (q.variance + (q.loc - p.loc) ** 2) / (2 * p.variance) - 0.5
        elif alpha == 0:
            divergence = 0.0
        else:
            mixed = alpha * p.variance + (1 - alpha) * q.variance
            divergence = (
                jnp.log(p.scale / q.scale)
                + jnp.log(p.variance / mixed) / (2 * (alpha - 1))
                + alpha * (q.loc - p.loc) ** 2 / (2 * mixed)
            )
        value = lw.renyi(self.log_w(), alpha)
        np.testing.assert_allclose(value, og.log_evidence() - divergence, atol=2e-4)
        np.testing.assert_allclose(lw.cubo(self.log_w(), 1 - alpha), value) if alpha != 1 else None

    @pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
    def test_tempered_mean(self, beta):
        """Under the Gaussian between q and the posterior, whose precision is the mean of theirs."""
        z = np.linspace(-8.0, 8.0, 40_001)
        log_w, log_q = og.log_weight(og.THETA, og.PHI, z), og.guide_distribution(og.PHI).log_prob(z)
        weights = np.exp(log_q + beta * log_w)
        exact = (weights * log_w).sum() / weights.sum()
        np.testing.assert_allclose(lw.tempered_mean(self.log_w(), beta), exact, atol=1e-4)

    def test_thermodynamic_sums_enclose_the_evidence(self):
        log_w, exact = self.log_w(), og.log_evidence()
        gaps = []
        for n in (1, 2, 4, 8):
            partition = tuple(np.linspace(0.0, 1.0, n + 1))
            lower, upper = lw.tvo_lower(log_w, partition), lw.tvo_upper(log_w, partition)
            assert lower < exact < upper
            gaps.append(upper - lower)
        # Both sums move by the rise of the integrand over the number of pieces.
        np.testing.assert_allclose(gaps, gaps[0] / np.array([1, 2, 4, 8]), rtol=1e-9)
        np.testing.assert_allclose(lw.tvo_lower(log_w, (0.0, 1.0)), elbo(log_w))
        np.testing.assert_allclose(lw.tvo_upper(log_w, (0.0, 1.0)), lw.eubo(log_w))


@pytest.mark.usefixtures("x64")
class TestLeaveOneOut:
    @pytest.mark.parametrize("arithmetic", [False, True])
    def test_by_hand(self, arithmetic):
        w = np.exp(np.asarray(LOG_W, np.float64))
        for k in range(3):
            others = np.delete(w, k, axis=0)
            filled = others.mean(0) if arithmetic else np.exp(np.log(others).mean(0))
            expected = np.log((others.sum(0) + filled) / 3)
            np.testing.assert_allclose(lw.leave_one_out(LOG_W, arithmetic=arithmetic)[k], expected, rtol=1e-6)

    @pytest.mark.parametrize("arithmetic", [False, True])
    def test_does_not_depend_on_the_one_left_out(self, arithmetic):
        found = lw.leave_one_out(LOG_W, arithmetic=arithmetic)
        for k in range(3):
            moved = lw.leave_one_out(LOG_W.at[k].add(40.0), arithmetic=arithmetic)
            np.testing.assert_array_equal(moved[k], found[k])

    def test_a_dominating_weight_does_not_cancel(self):
        log_w = jnp.array([700.0, 0.0, 1.0])
        np.testing.assert_allclose(lw.leave_one_out(log_w, arithmetic=True)[0], np.log((1 + np.e) / 2))

    def test_two_particles(self):
        log_w = jnp.array([0.3, -1.2])
        for arithmetic in (False, True):  # the only other one is its own mean
            np.testing.assert_allclose(lw.leave_one_out(log_w, arithmetic=arithmetic), log_w[::-1])
