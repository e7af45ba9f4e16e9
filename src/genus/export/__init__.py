"""Export and import of models (station 7): folders in the Hugging Face layout, fairseq checkpoints, GGUF files."""
