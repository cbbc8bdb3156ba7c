"""Studies: each a folder, run by `python -m experiments.NAME` from the project's root."""
