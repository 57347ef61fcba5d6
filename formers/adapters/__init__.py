"""Adapters: low-rank changes of frozen models, in the file format of the package peft."""
