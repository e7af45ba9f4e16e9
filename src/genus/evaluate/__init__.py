"""Station 9, how good it is: metrics with their intervals, and completions of masked text."""
