"""The recipes: ways of training, each with its data, network and optimisation."""
