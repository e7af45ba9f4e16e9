#!/usr/bin/env bash
# Runs the tests in .venv (made at the first run). --all runs the slow ones too; other arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"

. ./environment.sh
environment '.[dev,oracle]' tests/real_weights.txt

marks=(-m 'not slow')
arguments=()
for argument in "$@"; do
  if [ "$argument" = --all ]; then marks=(); else arguments+=("$argument"); fi
done
# Many tests start processes: without bytecode each compiles PyTorch anew, three times as long as importing it.
unset PYTHONDONTWRITEBYTECODE
# One thread a process: the processes share the cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec .venv/bin/python -m pytest -n auto --dist worksteal \
  ${marks[@]+"${marks[@]}"} ${arguments[@]+"${arguments[@]}"}
