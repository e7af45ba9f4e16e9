#!/usr/bin/env bash
# What only a GPU can tell: the ways of attention against their definition, and rates beside Hugging Face's.
set -euo pipefail
cd "$(dirname "$0")/.."
python -m pytest tests/model -q
for member in bert/base bert/large; do
  python benchmarks/throughput.py --device cuda --recipe "$member" --lengths 512 --no-inference
done
python benchmarks/throughput.py --device cuda --recipe bert/base --lengths 512 --levers
