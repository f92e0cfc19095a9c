"""How a file says where the nuclei of an image are: one module per format, one row per format in `formats`."""
