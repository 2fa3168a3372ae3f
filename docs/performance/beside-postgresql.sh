#!/usr/bin/env bash
# Ingest and audited reads of Kura and of PostgreSQL in turns, on this machine, in one sitting: rates of a shared machine differ by half
# from hour to hour, so that only what ran side by side compares. PostgreSQL: a primary and two synchronous standbys (a quorum of one), a
# row for each body and an audit row for each access in the same transaction, 64 clients of pgbench over a local socket; no TLS, no
# encryption, no compression of bodies. Needs PostgreSQL's server programs and pgbench.
#
# beside-postgresql.sh KURA FOLDER_OF_BODIES [TURNS=3] [SECONDS=10]
set -euo pipefail
kura=$(realpath "$1") input=$(realpath "$2") turns=${3:-3} seconds=${4:-10} clients=64
bin=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -1 | xargs -r dirname)
[ -n "$bin" ] && command -v pgbench >/dev/null || { echo "NOT RUN: no PostgreSQL server or pgbench; install postgresql" >&2; exit 3; }
as() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }

postgresql() { (
  work=$(mktemp -d); cd "$work"
  [ "$(id -u)" = 0 ] && chown postgres "$work"
  chmod 711 "$work"
  stop() { for n in primary s1 s2; do as "$bin/pg_ctl" -D "$work/$n" -m immediate stop >/dev/null 2>&1 || true; done; rm -rf "$work"; }
  trap stop EXIT
  as "$bin/initdb" -D "$work/primary" -A trust -U postgres >/dev/null
  as tee -a "$work/primary/postgresql.conf" >/dev/null <<CONF
listen_addresses = ''
unix_socket_directories = '$work'
port = 55432
max_connections = 200
shared_buffers = 256MB
max_wal_size = 4GB
wal_keep_size = 1GB
synchronous_commit = on
CONF
  as "$bin/pg_ctl" -D "$work/primary" -w -l "$work/primary.log" start >/dev/null
  port=55432
  for standby in s1 s2; do
    port=$((port + 1))
    as "$bin/pg_basebackup" -h "$work" -p 55432 -U postgres -D "$work/$standby" -R >/dev/null
    as tee -a "$work/$standby/postgresql.auto.conf" >/dev/null <<CONF
port = $port
primary_conninfo = 'host=$work port=55432 user=postgres application_name=$standby'
CONF
    as "$bin/pg_ctl" -D "$work/$standby" -w -l "$work/$standby.log" start >/dev/null
  done
  ask() { as psql -qAt -h "$work" -p 55432 -U postgres -v ON_ERROR_STOP=1 -c "$1" postgres; }
  ask "alter system set synchronous_standby_names = 'ANY 1 (s1, s2)'"
  ask "select pg_reload_conf()" >/dev/null
  for _ in $(seq 100); do
    [ "$(ask "select count(*) from pg_stat_replication where sync_state = 'quorum'")" = 2 ] && break
    sleep 0.1
  done
  [ "$(ask "select count(*) from pg_stat_replication where sync_state = 'quorum'")" = 2 ] || { echo "the standbys are not synchronous" >&2; exit 1; }
  ask "create table record (id bigserial primary key, participant bigint, body bytea)"
  ask "alter table record alter body set storage external"
  ask "create index on record (participant)"
  ask "create table audit (id bigserial primary key, at timestamptz default now(), participant bigint, record bigint, actor text)"
  options=() number=0
  for file in "$input"/*; do
    [ -f "$file" ] && [ "$number" -lt 60 ] || continue
    number=$((number + 1))
    printf '%s\n' '\set p random(1, 100000)' 'begin;' \
      "insert into record (participant, body) values (:p, convert_to(:body$number, 'UTF8'));" \
      "insert into audit (participant, record, actor) values (:p, currval('record_id_seq'), 'F0001/u-1');" 'commit;' > "$work/$number.sql"
    options+=(-D "body$number=$(cat "$file")" -f "$work/$number.sql")
  done
  rate() { as pgbench -n -h "$work" -p 55432 -U postgres -M prepared -c "$clients" -j 2 -T "$seconds" "$@" postgres 2>/dev/null | awk '/^tps/ {printf "%.0f\n", $3}'; }
  rate "${options[@]}"
  printf '%s\n' "\\set r random(1, $(ask 'select max(id) from record'))" 'begin;' 'select body from record where id = :r;' \
    "insert into audit (participant, record, actor) values (1, :r, 'F0001/u-1');" 'commit;' > "$work/read.sql"
  chmod -R a+rX "$work"/*.sql
  rate -f "$work/read.sql"
) }

kura_rates() { (
  work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
  "$kura" bench --data "$work/cluster" --input "$input" --clients "$clients" --seconds "$seconds" --warm-up 2 --only ingest --only read --json 2>/dev/null |
    grep -o '"operations_per_second": *[0-9.]*' | grep -o '[0-9.]*$'
) }

results=$(mktemp -d); trap 'rm -rf "$results"' EXIT
printf '%-6s %18s %18s %18s %18s\n' turn "PostgreSQL ingest" "Kura ingest" "PostgreSQL reads" "Kura reads"
for turn in $(seq "$turns"); do
  # Each begins as often as the other.
  if [ $((turn % 2)) = 1 ]; then p=$(postgresql); k=$(kura_rates); else k=$(kura_rates); p=$(postgresql); fi
  read -r p_ingest p_read <<< "$(echo $p)"; read -r k_ingest k_read <<< "$(echo $k)"
  printf '%-6s %18.0f %18.0f %18.0f %18.0f\n' "$turn" "$p_ingest" "$k_ingest" "$p_read" "$k_read"
  awk "BEGIN {print $k_ingest / $p_ingest}" >> "$results/ingest"; awk "BEGIN {print $k_read / $p_read}" >> "$results/read"
done
echo "Kura's rate as a share of PostgreSQL's, median of turns: ingest $(median < "$results/ingest"), audited reads $(median < "$results/read")"
