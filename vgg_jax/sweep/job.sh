#!/bin/bash
# One task of this array is one training of a sweep. Written by sweep.py, which overwrites it.
#SBATCH --job-name=%{name}
#SBATCH --array=%{array}
#SBATCH --output=%{output}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
%{options}

case $SLURM_ARRAY_TASK_ID in
%{points}
esac
job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID # SLURM_JOB_ID of an array's last task names the whole array
log=$workdir/train.log
mkdir -p "$workdir"

note() { # a line of JSON, from which sweep.py has the state
    echo "$1" >>"$workdir/attempts.jsonl"
}

trap : TERM # this shell outlives the signal that ends the training
export SRUN_CPUS_PER_TASK=${SRUN_CPUS_PER_TASK:-${SLURM_CPUS_PER_TASK:-}}
[[ $SRUN_CPUS_PER_TASK ]] || unset SRUN_CPUS_PER_TASK # srun does not take it from sbatch by itself

note "{\"start\": \"$(date --iso-8601=seconds)\", \"host\": \"$(hostname)\", \"job\": \"$job\"}"
srun "${command[@]}" </dev/null >>"$log" 2>&1 # a step of its own: scancel, preemption and time limit signal steps
status=$?
note "{\"end\": \"$(date --iso-8601=seconds)\", \"status\": $status}"

((status == 0)) && exit 0
said=$(tr '\r' '\n' <"$log" | grep -Ev '^(srun|slurmstepd|\s*$)' | tail -n 1)
if ((status == 1)) && [[ $said =~ ^(process [0-9]+: )?error:\  ]]; then
    exit 1 # a mistake that a restart does not mend
fi
if ((${SLURM_RESTART_COUNT:-0} < %{restarts})); then
    scontrol requeue "$job" # status %{preempted}: told to stop, and saved; others: killed, or a node was lost
fi
exit $status
