"""The laboratory: which gradient estimator is best for this program, by measurement.

`candidates` are assignments of estimators to nodes; `measure` takes draws of the gradient under one of them;
`reference` says what the gradient is; `compare` judges; `table` and `figure` show.
"""
