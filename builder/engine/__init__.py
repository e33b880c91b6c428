"""The pure middle (desired, diff, graph, plan, schedule, render) and its thin IO edge."""
