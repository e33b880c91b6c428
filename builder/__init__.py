"""The engine of pgha-build. It knows no role by name; roles import it, never the reverse."""

__version__ = "0.1.0"
