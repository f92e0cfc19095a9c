"""The search for better settings of a recipe: many trainings with others, of which the best is kept."""
