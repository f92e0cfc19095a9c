#!/bin/bash
# Segments a folder with an array of SLURM jobs, and joins their tables when all have ended:
#
#     bash submit.sh IMAGES RESULTS [options of nuclei-infer]
#
# All nodes must see the folders under the same paths, and find nuclei-infer in the PATH of this shell. To go on after
# a failure, submit the same again: what is done is not done again.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
array=$(sbatch --parsable "$here/array.sh" "$@")
# afterany: images that could not be read make a task fail, and their rows belong in the tables too.
sbatch --dependency="afterany:${array%%;*}" "$here/join.sh" "$@"
