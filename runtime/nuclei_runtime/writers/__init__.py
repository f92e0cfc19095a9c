"""What is written of a plane: one module per output."""
