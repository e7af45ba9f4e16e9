"""BigBird's block-sparse attention: block layout, kernel and layer."""
