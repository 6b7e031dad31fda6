#!/bin/bash
# Runs a command in the environment that `source activate.sh` makes: the Dagster instance of
# WMTP_SOURCE, or with WMTP_DATABASE_URL the one of many hosts.
set -e
# shellcheck source=/dev/null
. /opt/wmtp/activate.sh
exec "$@"
