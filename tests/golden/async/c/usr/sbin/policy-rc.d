#!/bin/sh
# Managed by pgha-build. Packages ask here before they start or restart a unit: not these.
case "${1%.service}" in
  etcd) exit 101 ;;
  patroni) exit 101 ;;
  postgresql) exit 101 ;;
  postgresql@*) exit 101 ;;
esac
exit 0
