import jax.numpy as jnp
import numpy as np
import pytest

from elbax.bounds.log_weights import effective_sample_size, elbo, iwae

LOG_W = jnp.array([[0.0, -1.0], [1.0, -2.0], [-0.5, 3.0]])


def test_values_by_hand():
    w = np.exp(np.asarray(LOG_W))
    np.testing.assert_allclose(elbo(LOG_W), np.asarray(LOG_W).mean(0), rtol=1e-6)
    np.testing.assert_allclose(iwae(LOG_W), np.log(w.mean(0)), rtol=1e-6)
    np.testing.assert_allclose(effective_sample_size(LOG_W), w.sum(0) ** 2 / (w**2).sum(0), rtol=1e-5)


def test_one_particle_is_the_elbo():
    np.testing.assert_allclose(iwae(LOG_W[:1]), elbo(LOG_W[:1]), rtol=1e-6)


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_no_overflow(shift):
    np.testing.assert_allclose(iwae(LOG_W + shift), iwae(LOG_W) + shift, rtol=1e-6)


def test_no_weight_at_all():
    assert iwae(jnp.full((4,), -jnp.inf)) == -jnp.inf
