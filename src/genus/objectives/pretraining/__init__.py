"""Pretraining objectives: language models, replaced-token detection, distillation and labels of formats."""
