"""What PyInstaller cannot see in the imports of nuclei_runtime."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

# The models with their samples, and the metadata from which the version is read.
datas = collect_data_files("nuclei_runtime") + copy_metadata("nuclei-edge")

# `nuclei_runtime.__getattr__` imports modules by names that it puts together. A frozen program has no commands, and
# this hook would bring PyInstaller itself.
_LEFT_OUT = ("nuclei_runtime.cli", "nuclei_runtime._pyinstaller")
hiddenimports = collect_submodules("nuclei_runtime", filter=lambda name: not name.startswith(_LEFT_OUT))
