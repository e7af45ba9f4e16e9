"""A small table of questions with their choices."""

ROWS = [
    {"question": "who sat?", "choices": {"text": ["the cat", "a bird", "the old tree"], "label": ["1", "2", "3"]},
     "key": "1"},
    {"question": "who ran to the door?", "choices": {"text": ["cat", "the dog"], "label": ["A", "B"]}, "key": "B"},
    {"question": "what sang?", "choices": {"text": ["a bird in the tree", "mat"], "label": ["A", "B"]}, "key": "A"},
    {"question": "where?", "choices": {"text": ["the mat", "on the mat", "tree"], "label": ["A", "B", "C"]},
     "key": "C"},
    {"question": "and?", "choices": {"text": ["the dog and the cat", "dog"], "label": ["A", "B"]}, "key": "B"},
]  # fmt: skip
