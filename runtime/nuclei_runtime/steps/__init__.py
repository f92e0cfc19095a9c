"""The steps from pixels to nuclei: normalise, tile, scale, find instances, measure."""
