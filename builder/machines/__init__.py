"""Where hosts come from: vagrant, lab (systemd-nspawn), existing machines."""
