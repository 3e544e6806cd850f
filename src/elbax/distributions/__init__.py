"""Distributions that NumPyro does not have."""

from elbax.distributions.one_hot import OneHotCategorical as OneHotCategorical
from elbax.distributions.power_spherical import PowerSpherical as PowerSpherical
from elbax.distributions.sphere import HypersphericalUniform as HypersphericalUniform
from elbax.distributions.von_mises_fisher import VonMisesFisher as VonMisesFisher
