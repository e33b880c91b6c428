"""Drills: one fault at a time under write traffic, and what the recorded history proves."""
