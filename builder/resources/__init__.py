"""One resource type per file. Types do no IO: they say how to look, and what to do."""
