"""The results folder: layout, records, locks, and the joined tables."""
