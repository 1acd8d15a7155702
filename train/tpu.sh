#!/usr/bin/env bash
# Train on a TPU pod: make it, install anojax on every host, run the same command there.
#
#   train/tpu.sh NAME ZONE TYPE BUCKET -- CONFIG [KEY=VALUE ...] --output RUN
#   train/tpu.sh bottle us-central2-b v4-32 gs://mine -- configs/train/draem.yaml --output runs/bottle
#
# BUCKET holds the images (BUCKET/data) and receives the runs (BUCKET/runs); it is
# mounted on every host as ~/bucket, so data.input and --output are paths below it.
# The same command continues a run that was interrupted. Not run yet: written against
# the documented gcloud commands. Delete the machine yourself when done:
#   gcloud compute tpus tpu-vm delete NAME --zone ZONE
set -euo pipefail

if [[ $# -lt 6 || $5 != "--" ]]; then
  sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
name=$1 zone=$2 type=$3 bucket=${4#gs://}
shift 5
here=$(cd "$(dirname "$0")/.." && pwd)

on_every_host() {
  gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker all --command "$1"
}

if ! gcloud compute tpus tpu-vm describe "$name" --zone "$zone" >/dev/null 2>&1; then
  gcloud compute tpus tpu-vm create "$name" --zone "$zone" \
    --accelerator-type "$type" --version tpu-ubuntu2204-base
fi

archive=$(mktemp --suffix .tar.gz)
trap 'rm -f "$archive"' EXIT
git -C "$here" archive --format tar.gz --output "$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$name:anojax.tar.gz" --zone "$zone" --worker all

on_every_host "mkdir -p anojax bucket && tar xzf anojax.tar.gz -C anojax \
  && (mountpoint -q bucket || gcsfuse --implicit-dirs $bucket bucket) \
  && (command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh) \
  && cd anojax && ~/.local/bin/uv venv --python 3.11 --allow-existing \
  && ~/.local/bin/uv pip install --quiet '.[tpu]'"

words=$(printf '%q ' "$@")
on_every_host "cd bucket && PATH=\$HOME/anojax/.venv/bin:\$PATH \
  anojax train $words --distributed"
