"""The only package that touches paramiko."""
