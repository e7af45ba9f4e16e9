"""Comparisons of recipes on one text at one budget, with several seeds: what papers of the BERT family are."""
