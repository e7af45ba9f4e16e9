"""Station 7, learners to folders that other tools read, and back: Hugging Face's layout, fairseq's checkpoints."""
