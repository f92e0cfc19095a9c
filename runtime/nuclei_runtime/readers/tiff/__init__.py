"""TIFF: directories, OME-XML, strips and tiles, and pages that only Pillow decodes."""
