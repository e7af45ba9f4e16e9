"""Files of tokenizers in the layouts of transformers and sentencepiece."""
