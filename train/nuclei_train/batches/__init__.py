"""What the network is shown: crops, augmentation, targets."""
