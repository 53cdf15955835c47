#!/bin/sh
# Runs once, when the container makes its database.
set -eu
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" \
  -v password="$(cat /run/secrets/database_service_password)" -v database="$POSTGRES_DB" \
  -f /etc/orchestrator/roles.sql
