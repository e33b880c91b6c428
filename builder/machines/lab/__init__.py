"""A local lab: hosts that are systemd-nspawn containers in a network of their own.

The public face is `provider.LabProvider`; nothing is imported here, for reading a spec needs no
more than `settings`. docs/reference/lab.md says what a lab leaves on a machine, and where.
"""
