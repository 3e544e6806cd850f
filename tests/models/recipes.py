"""The recipes at sizes that train in a second."""

RUN = (
    "max_steps=200",
    "log_every=50",
    "validate_every=100",
    "checkpoint_every=100",
    "eval_particles=5",
    "eval_data=50",
    "bracket_data=0",
    "learning_rate=0.01",
    "output_bias=false",
)

# By name and, after a colon, a variant; with the shape of each latent site for one datum.
TINY: dict[str, tuple[tuple[str, ...], dict[str, tuple[int, ...]]]] = {
    "iwae": (("hidden=8", "num_latents=2"), {"z": (2,)}),
    "beta-vae": (("hidden=8", "num_latents=2", "warm_up=100"), {"z": (2,)}),
    "hvae": (("num_latents=4,2", "hidden=8,5"), {"z1": (4,), "z2": (2,)}),
    "hvae:ladder": (("num_latents=4,3,2", "hidden=8,6,5", "ladder=true"), {"z1": (4,), "z2": (3,), "z3": (2,)}),
    "vamp": (("hidden=8", "num_latents=2", "num_components=5"), {"z": (2,)}),
    "svae": (("hidden=8", "dimension=2"), {"z": (3,)}),
    "svae:power": (("hidden=8", "dimension=2", "posterior=power_spherical"), {"z": (3,)}),
    "discrete-vae": (("hidden=8", "num_variables=3"), {"z1": (3,)}),
    "discrete-vae:categories": (("hidden=8", "num_variables=3", "num_categories=4"), {"z": (3, 4)}),
    "sbn": (("layers=4,2",), {"z1": (4,), "z2": (2,)}),
    "sbn:nonlinear": (("layers=4", "hidden=5,6"), {"z1": (4,)}),
}
