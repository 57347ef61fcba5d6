"""Numeric kernels that stock torch lacks, each beside its plain torch reference."""
