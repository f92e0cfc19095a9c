"""Where images and their annotations lie: one module per layout, one row per layout in `registry`."""
