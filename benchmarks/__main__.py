"""Runs all benchmarks, or those named on the command line."""

import importlib
import sys

ALL = ("separation_variance", "trace_time", "surrogate_overhead", "vae_step", "estimator_guide")
LONG = ("mnist_binary", "sbn_libraries")  # hours, or with other libraries installed: only when named


def main() -> None:
    chosen = sys.argv[1:] or ALL
    for name in chosen:
        if name not in ALL + LONG:
            sys.exit(f"there is no benchmark '{name}'; there are {', '.join(ALL + LONG)}")
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
