"""The results folder: what lies where, records, locks, and the joined tables."""
