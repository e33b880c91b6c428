"""What is done to a running cluster on purpose: guarded courses of steps, as pure generators."""
