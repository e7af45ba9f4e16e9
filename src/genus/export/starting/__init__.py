"""Starting from other weights: transplanted vocabularies, teachers, auxiliary models."""
