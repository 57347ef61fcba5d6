"""Benchmarks of formers beside its peers. See README.md; `make bench` runs them."""
