"""BigBird's block-sparse attention: the layout of blocks, the kernel, the layer."""
