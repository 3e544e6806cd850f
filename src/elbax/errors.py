"""The errors that elbax raises: one class per kind of mistake, all of them an `ElbaxError`.

A message names the site or the file, the user's line where there is one, what was found, and how to fix it, in one
paragraph.
"""


class ElbaxError(Exception):
    """Base of every error that elbax raises on purpose."""


class ProgramError(ElbaxError, ValueError):
    """A program that cannot be turned into a graph: duplicate names, sites where none may stand, lost costs."""


class SiteMismatchError(ElbaxError, ValueError):
    """A model and a guide whose sites do not match by name, shape or support."""


class EstimatorError(ElbaxError, ValueError):
    """An estimator that is not valid for the node it was given to."""


class DataError(ElbaxError, ValueError):
    """Data that cannot be used: wrong shape, empty, NaN, out of range, or a file that is corrupt."""


class ConfigError(ElbaxError, ValueError):
    """An option or a field that does not exist, or a value that it cannot take."""


class RunError(ElbaxError, RuntimeError):
    """A run folder or a checkpoint that cannot be used as asked."""


class NonFiniteError(ElbaxError, FloatingPointError):
    """A value, log-density or gradient became NaN or infinite; the message says where first."""
