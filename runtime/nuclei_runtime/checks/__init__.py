"""Checks that this machine works as it should: doctor, benchmark, sample, demo."""
