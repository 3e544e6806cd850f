import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import elbax
from elbax.models.vae import make_vae


def test_output_starts_at_the_mean_image():
    mean = jnp.linspace(0.0, 1.0, 6)
    model, _ = make_vae(6, hidden=(4,), num_latents=2, output_mean=mean, key=jr.key(0))
    bias = jax.nn.sigmoid(model.decoder.biases[-1])
    np.testing.assert_allclose(bias, jnp.clip(mean, 1e-3, 1 - 1e-3), rtol=1e-4)


def test_shapes_and_graph():
    model, guide = make_vae(6, hidden=(4, 3), num_latents=2, key=jr.key(0))
    assert [w.shape for w in guide.encoder.weights] == [(6, 4), (4, 3), (3, 4)]
    assert [w.shape for w in model.decoder.weights] == [(2, 3), (3, 4), (4, 6)]
    graph = elbax.trace(elbax.ELBO(model, guide), jnp.zeros((5, 6)))
    assert graph.nodes["z"].shape == (5, 2)
    assert set(graph.costs) == {"-log p(x)", "KL(z)"}
    assert graph.nodes["z"].source is not None
    assert graph.nodes["z"].source.file.endswith("vae.py")
    loc, scale = guide.encode(jnp.zeros((5, 6)))
    assert loc.shape == scale.shape == (5, 2)
    assert model.decode(loc).shape == (5, 6)


def test_bound_equals_a_hand_written_one():
    """Same draw, same numbers: the derived loss is the textbook one."""
    model, guide = make_vae(6, hidden=(4,), num_latents=2, key=jr.key(0))
    x = jr.bernoulli(jr.key(1), 0.4, (5, 6)).astype(jnp.float32)
    value = elbax.surrogate(lambda bound, x: bound(x))(jr.key(2), elbax.ELBO(model, guide), x)

    loc, scale = guide.encode(x)
    site_key = jr.fold_in(jr.key(2), __import__("zlib").crc32(b"z"))
    z = loc + scale * jr.normal(site_key, loc.shape)
    logits = model.decoder(z)
    log_lik = (x * jax.nn.log_sigmoid(logits) + (1 - x) * jax.nn.log_sigmoid(-logits)).sum()
    kl = (0.5 * (loc**2 + scale**2) - jnp.log(scale) - 0.5).sum()
    np.testing.assert_allclose(value, kl - log_lik, rtol=1e-5)
