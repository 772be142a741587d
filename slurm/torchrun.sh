#!/bin/sh
# One training over several nodes: sbatch slurm/torchrun.sh supernet --log logs/supernet.log
# Set `runtime.processes` in params.yaml to the GPUs of all nodes together (docs/hpc.md).
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=1-0
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -eu
# shellcheck disable=SC1091  # it is there after `make setup`
if [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# A port of the job's own, as two jobs may meet on one node.
port=$((20000 + SLURM_JOB_ID % 20000))
# "--": torchrun would take some of the options of the step for its own.
exec srun torchrun --nnodes="$SLURM_NNODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-backend=c10d --rdzv-endpoint="$first:$port" --rdzv-id="$SLURM_JOB_ID" -m -- imbnas.cli "$@"
