"""Scoring an exported model against the truth."""
