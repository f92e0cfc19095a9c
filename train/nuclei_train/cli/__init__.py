"""The commands that need data, one module per command. Heavy imports stay inside the commands."""
