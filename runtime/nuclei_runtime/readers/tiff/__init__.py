"""TIFF: directories, OME-XML, segments, and pages that only Pillow decodes."""
