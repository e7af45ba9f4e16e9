#!/usr/bin/env bash
# What only a GPU can tell: the ways of attention against their definition, rates beside Hugging Face's, and number formats.
set -euo pipefail
cd "$(dirname "$0")/.."
python -m pytest tests/model tests/train/test_precision_on_gpus.py -q
for member in bert/base bert/large; do
  python benchmarks/throughput.py --device cuda --recipe "$member" --lengths 512 --no-inference
done
python benchmarks/throughput.py --device cuda --recipe bert/base --lengths 512 --levers
pip install --quiet 'torchao>=0.18'  # float8
for member in bert/base bert/large; do
  python benchmarks/precision.py --device cuda --recipe "$member" --length 512 --rows 32
done
