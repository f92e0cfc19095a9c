"""The recipes: everything in which one way of training differs from another."""
