#!/usr/bin/env bash
# From nothing to a pretrained, fine-tuned model: makes .venv, installs, and runs `genus quickstart` (it says how long it will take; about 16 minutes on 2 slow cores).
# Needs Python 3.11 or newer; PYTHON=... names one. Arguments go to `genus quickstart`.
set -euo pipefail
cd "$(dirname "$0")"

. ./environment.sh
environment .
exec .venv/bin/genus quickstart "$@"
