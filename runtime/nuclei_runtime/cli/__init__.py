"""The runtime's commands, one module per command."""
