"""Planes -> nuclei within the memory that may be used."""
