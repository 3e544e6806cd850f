"""elbax: the evidence lower bound, made trustworthy. One line per public name, in the order of the pipeline."""
