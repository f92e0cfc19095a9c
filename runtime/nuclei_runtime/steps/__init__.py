"""The steps between pixels and nuclei: normalise, tile, scale, find instances, measure."""
