"""Fine-tuning: a trained model adapted to a few images, and whether that made it better."""
