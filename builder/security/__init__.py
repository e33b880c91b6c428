"""Secrets and certificates. Only `store` touches the disk."""
