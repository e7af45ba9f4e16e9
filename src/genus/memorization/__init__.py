"""Memorization: which text a trained model has by heart, and whether others could get it out.

Texts that a model writes are ranked by scores that tell members of its training text from others, and looked up in an
exact index of that text (Carlini et al. 2020, arXiv:2012.07805). Canaries, strings that were planted in the text a
known number of times, tell how probable the model finds them among all that could stand there (Carlini et al. 2018,
"The Secret Sharer", arXiv:1802.08232).
"""
