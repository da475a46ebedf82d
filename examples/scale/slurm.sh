#!/bin/bash
# A run of 1,000 images as an array of 20 jobs, and a last job that makes the result of their shares:
#   jobs=$(sbatch --parsable examples/scale/slurm.sh)
#   sbatch --dependency="afterok:$jobs" --array=0 examples/scale/slurm.sh merge
# Every job does its share of the images (--shard auto reads SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT) and knows
# nothing of the others. Jobs that were lost are done by the same commands; what is finished is not done again.
#SBATCH --job-name=snd
#SBATCH --array=0-19
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --output=snd-%A-%a.log
#SBATCH --requeue
set -euo pipefail

results=${RESULTS:-$PWD/results} # on a file system that all nodes see

if [ "${1:-share}" = merge ]; then
    exec snd merge "$results"
fi

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
srun snd attack hsja,hsja-na --sigma 0,0.01 --budget 10000 --images 1000 \
    --data-dir "${SND_DATA:?the folder of CIFAR-10}" --device cpu --no-progress --out "$results" --shard auto
