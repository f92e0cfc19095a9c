#!/bin/bash
# Segments what the tasks of an array left undone, if anything, and joins the tables. submit.sh submits it.
#SBATCH --job-name=nuclei-join
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --output=nuclei-join-%j.log
set -euo pipefail
images=$1 results=$2
shift 2
exec nuclei-infer "$images" --out "$results" --resume --max-memory 7GiB "$@"
