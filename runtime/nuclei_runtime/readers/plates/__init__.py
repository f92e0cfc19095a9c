"""Plates: a folder with an index that says which of its files is which well, field, channel, time and depth."""
