# Managed by pgha-build: patronictl finds the cluster without further words.
export PATRONICTL_CONFIG_FILE=/etc/patroni/config.yml
