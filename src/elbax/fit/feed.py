"""Where batches come from: arrays on the device, memory maps, or iterators.

Every epoch is a new permutation of the rows, drawn on the host from the run's key and the number of the epoch alone, so
that a resumed run sees the batches it would have seen. Rows that do not fill the last batch of an epoch are left out of
that epoch (others are left out of the next one).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elbax.errors import DataError

__all__ = ["Feed", "InMemory", "NoData", "Streamed", "make_feed"]


@dataclass(frozen=True)
class NoData:
    """For programs that hold their data themselves."""

    num_data: None = None
    batch_size: None = None

    def example(self) -> None:
        """There is no batch."""

    def source(self, step: int, num_steps: int) -> Any:
        """Nothing to pass to a block."""
        return ()

    def select(self, source: Any, step: jax.Array, position: jax.Array) -> Any:
        """The batch of a step: none."""
        return None


def _rows(data: Any) -> int:
    return jax.tree.leaves(data)[0].shape[0]


def permutation(seed: np.ndarray, epoch: int, num_data: int) -> np.ndarray:
    """The order of the rows in an epoch. Shape `[num_data]`, int32."""
    # A counter-based generator: any epoch can be had without those before it.
    entropy = [*(int(word) for word in seed.ravel()), epoch]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
    return rng.permutation(num_data).astype(np.int32)


@dataclass
class InMemory:
    """Arrays that stay on the device; batches are gathered there.

    Attributes:
        data: arrays with a common leading axis.
        batch_size: rows per batch; all of them if it is the size of the data.
        seed: words of the run's key.
    """

    data: Any
    batch_size: int
    seed: np.ndarray
    _orders: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def num_data(self) -> int:
        """Rows of the data."""
        return _rows(self.data)

    @property
    def per_epoch(self) -> int:
        """Batches per epoch."""
        return self.num_data // self.batch_size

    def example(self) -> Any:
        """A batch."""
        return jax.tree.map(lambda x: x[: self.batch_size], self.data)

    def source(self, step: int, num_steps: int) -> Any:
        """The data and the orders of the epochs that a block may touch."""
        if self.batch_size == self.num_data:
            return self.data, None, None
        first = step // self.per_epoch
        window = (num_steps - 1) // self.per_epoch + 2
        self._orders = {e: self._order(e) for e in range(first, first + window)}
        return self.data, np.stack([self._orders[e] for e in range(first, first + window)]), np.int32(first)

    def _order(self, epoch: int) -> np.ndarray:
        return self._orders[epoch] if epoch in self._orders else permutation(self.seed, epoch, self.num_data)

    def select(self, source: Any, step: jax.Array, position: jax.Array) -> Any:
        """The batch of a step, inside the compiled block."""
        data, orders, first = source
        if orders is None:
            return data
        start = (step % self.per_epoch) * self.batch_size
        rows = jax.lax.dynamic_slice(orders, (step // self.per_epoch - first, start), (1, self.batch_size))[0]
        return jax.tree.map(lambda x: x.at[rows].get(mode="promise_in_bounds"), data)


@dataclass
class Streamed:
    """Batches made on the host by a thread that runs one block ahead of the device.

    Attributes:
        rows: `(step) -> batch`, NumPy arrays; called in order of steps, in the thread.
        first: an example batch.
        num_data: rows of the data, if known.
        batch_size: rows per batch.
    """

    rows: Callable[[int], Any]
    first: Any
    num_data: int | None
    batch_size: int
    _ahead: Any = None

    def example(self) -> Any:
        """A batch."""
        return jax.tree.map(jnp.asarray, self.first)

    def source(self, step: int, num_steps: int) -> Any:
        """The batches of a block, stacked; the next block's are then gathered in the background.

        Blocks must be asked for in order of their steps; only the last one may be shorter than those before.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == step and ahead[1] >= num_steps:
            stacked = ahead[2].get()
        else:
            stacked = self._gather(step, num_steps)
        if isinstance(stacked, BaseException):
            raise stacked
        if (missing := num_steps - jax.tree.leaves(stacked)[0].shape[0]) > 0:
            self._gather(step + num_steps - missing, missing)  # raises where the iterator ended
        self._ahead = (step + num_steps, num_steps, self._start(step + num_steps, num_steps))
        return jax.tree.map(jnp.asarray, stacked)

    def select(self, source: Any, step: jax.Array, position: jax.Array) -> Any:
        """The batch of a step, inside the compiled block."""
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, position, keepdims=False), source)

    def _gather(self, step: int, num_steps: int, *, ahead: bool = False) -> Any:
        batches = []
        for s in range(step, step + num_steps):
            try:
                batches.append(self.rows(s))
            except DataError:
                if not (ahead and batches):
                    raise
                break  # the end of an iterator, which only matters if these steps are asked for
        return jax.tree.map(lambda *xs: np.stack(xs), *batches)

    def _start(self, step: int, num_steps: int) -> queue.SimpleQueue:
        out: queue.SimpleQueue = queue.SimpleQueue()

        def work() -> None:
            try:
                out.put(self._gather(step, num_steps, ahead=True))
            except BaseException as error:  # raised again by whoever asks for the block
                out.put(error)

        threading.Thread(target=work, name="elbax-prefetch", daemon=True).start()
        return out


Feed = NoData | InMemory | Streamed


def mapped_rows(data: Any, batch_size: int, seed: np.ndarray) -> Callable[[int], Any]:
    """Batches of memory-mapped arrays; only the rows of a batch are read."""
    num_data = _rows(data)
    per_epoch = num_data // batch_size
    cache: dict[int, np.ndarray] = {}

    def rows(step: int) -> Any:
        epoch, position = divmod(step, per_epoch)
        if epoch not in cache:
            cache.clear()
            cache[epoch] = permutation(seed, epoch, num_data)
        chosen = cache[epoch][position * batch_size : (position + 1) * batch_size]
        # Sorted, so that the file is read in one direction; then back into the order of the epoch.
        order = np.argsort(chosen)
        back = np.argsort(order)
        return jax.tree.map(lambda x: np.asarray(x[chosen[order]])[back], data)

    return rows


def iterated(batches: Iterator[Any], first: Any) -> Callable[[int], Any]:
    """Batches of an iterator, in its order; a resumed run skips those that it has seen."""
    state = {"next": 0, "held": first}
    shapes = jax.tree.map(np.shape, first)

    def rows(step: int) -> Any:
        while True:
            held = state["held"] if state["held"] is not None else next(batches, None)
            state["held"] = None
            if held is None:
                raise DataError(
                    f"the iterator of batches ended after {state['next']} batches, before training did. Pass an "
                    "endless iterator (such as itertools.cycle over a list), or a smaller max_steps."
                )
            state["next"] += 1
            if state["next"] == step + 1:
                if jax.tree.map(np.shape, held) != shapes:
                    raise DataError(
                        f"batch {step} of the iterator has shapes {jax.tree.map(np.shape, held)}, the first one had "
                        f"{shapes}. All batches must have one shape; drop the last, smaller one."
                    )
                return jax.tree.map(np.asarray, held)

    return rows


def make_feed(data: Any, batch_size: int | None, key: jax.Array, num_data: int | None = None) -> Feed:
    """The feed of a data set: an array or tuple of arrays, memory maps, an iterator of batches, or `None`."""
    if data is None:
        return NoData()
    seed = np.asarray(jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)
    if isinstance(data, Iterator):
        first = next(data, None)
        if first is None:
            raise DataError("the iterator of batches is empty.")
        return Streamed(iterated(data, first), first, num_data, _rows(first))
    num_rows = check_rows(data)
    size = num_rows if batch_size is None else batch_size
    if not 1 <= size <= num_rows:
        raise DataError(f"batch_size={size} does not fit data of {num_rows} rows; choose 1 to {num_rows}.")
    if any(isinstance(x, np.memmap) for x in jax.tree.leaves(data)):
        rows = mapped_rows(data, size, seed)
        return Streamed(rows, rows(0), num_rows, size)
    return InMemory(jax.tree.map(jnp.asarray, data), size, seed)


def check_rows(data: Any) -> int:
    """The number of rows of the data.

    Raises:
        DataError: if there are no arrays, no rows, or arrays of different lengths.
    """
    leaves = jax.tree.leaves(data)
    if not leaves or not all(hasattr(x, "shape") for x in leaves):
        raise DataError(
            f"data must be an array, a tuple of arrays, or an iterator of batches; got {type(data).__name__}."
        )
    shapes = [tuple(x.shape) for x in leaves]
    if any(not s for s in shapes) or len({s[0] for s in shapes}) != 1:
        raise DataError(f"data arrays must have one row per datum and equally many rows; their shapes are {shapes}.")
    if shapes[0][0] == 0:
        raise DataError(f"the data are empty: their shapes are {shapes}.")
    return shapes[0][0]
