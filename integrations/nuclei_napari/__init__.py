"""The napari plugin: segment a layer, correct its labels, save the corrections, open results.

napari reads `napari.yaml` and imports a module only when one of its contributions is used. Of the runtime, only the
public names of `nuclei_runtime` are imported.
"""
