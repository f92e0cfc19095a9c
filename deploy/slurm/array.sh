#!/bin/bash
# One task segments its share of the images. submit.sh submits it.
#SBATCH --job-name=nuclei
#SBATCH --array=1-32
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --output=nuclei-%A_%a.log
set -euo pipefail
images=$1 results=$2
shift 2
# The job's processors and memory are found by nuclei-infer; it leaves half of the memory unless it is told otherwise.
exec nuclei-infer "$images" --out "$results" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --resume --max-memory 7GiB "$@"
