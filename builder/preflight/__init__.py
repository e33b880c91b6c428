"""What could stand in the way of a first apply: asked of all hosts at once, judged at once."""
