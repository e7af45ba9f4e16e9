#!/usr/bin/env bash
# From nothing to a pretrained, fine-tuned model: makes .venv, installs, and runs `genus quickstart` (it says how long it will take).
# Needs Python 3.11 or newer; PYTHON=... names one. Arguments go to `genus quickstart`.
set -euo pipefail
cd "$(dirname "$0")"

. ./environment.sh
environment .
exec .venv/bin/genus quickstart "$@"
