# Every task of this repository. `make` alone lists them; the work itself is in infra/local/.
# API_PORT (8000), DATABASE_URL, REDIS_URL and the other settings of .env.example are taken from the environment or .env.
.DEFAULT_GOAL := help
.PHONY: help up start stop status dev demo test check chaos failover interop observability pages clients s3 tls audit manifests units rolling restore-test sqlx openapi fuzz-api bench-all bench-backends bench-overload bench-points bench-sockets reset

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

up: ## build, start everything, run the demo, stay up; Ctrl-C stops it all and keeps the data
	@infra/local/platform up

start: ## build and start everything in the background, without the demo; run it again to revive whatever died
	@infra/local/platform start

stop: ## stop what `make start` started, the private PostgreSQL and Redis too; the data stays
	@infra/local/platform stop

status: ## what runs, where, and whether it is ready; fails unless all of it is, for scripts
	@infra/local/platform status

dev: ## start with debug builds, rebuild and restart when a source file changes
	@infra/local/platform dev

demo: ## a guided ten-second tour of the running platform
	@infra/local/demo

test: ## the whole test suite against throw-away PostgreSQL and Redis
	@infra/local/with-servers --ephemeral cargo test --locked --workspace --no-fail-fast $(TEST_ARGS)

check: ## everything CI checks, `make test` included
	@infra/local/check

chaos: ## kill, stop and empty everything under load, RUNS times (20), and account for every job and point
	@infra/local/chaos --runs $(or $(RUNS),20)

interop: ## the official Centrifugo SDKs for JavaScript and Python against our processes, and every frame against docs/asyncapi.yaml
	@infra/local/interop

pages: ## the pages of /examples in headless Chromium: a chat, and tracks that move; and the load report; PAGES_DIR=… keeps screenshots
	@infra/local/interop pages

observability: ## alerts by promtool, and every query of every dashboard against a real Prometheus that scrapes a platform under a small load
	@infra/local/observability

clients: ## clients generated from docs/openapi.json, in TypeScript and Python: they compile, and their examples run
	@infra/local/clients

tls: ## PostgreSQL and Redis over TLS, with an authority made for the run
	@infra/local/tls

audit: ## the tests of the security checklist (docs/security.md), and the dependencies; says what it could not look at
	@infra/local/audit

s3: ## the tests of the S3-compatible store of files, against moto
	@infra/local/s3

manifests: ## the Kubernetes manifests against schemas, and the sizes of compose files, profiles and overlays against the capacity guide
	@infra/local/manifests

units: ## the systemd units: verified, their exposure counted, and run under their limits with a stand-in service manager
	@infra/local/units

rolling: ## restart two API processes behind nginx, one after the other and under load, and see that nobody notices
	@infra/local/rolling

restore-test: ## back a running platform up, lose everything, restore it, and look for all that was there
	@infra/local/restore-test

failover: ## kill and stop masters of Redis, behind Sentinel and in a cluster, and account for every job
	@infra/local/failover

sqlx: ## refresh .sqlx after a change to a query or a migration
	@infra/local/sqlx-prepare

openapi: ## refresh docs/openapi.json, PROBLEMS.md and METRICS.md after a change to the REST API, the problems or the metrics
	@cargo build --quiet --locked --bin millrace-api
	@cargo run --quiet --locked --bin millrace-api -- openapi >docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json
	@cargo run --quiet --locked --bin millrace-api -- openapi --problems >docs/PROBLEMS.md.new && mv docs/PROBLEMS.md.new docs/PROBLEMS.md
	@cargo run --quiet --locked --bin millrace-api -- openapi --metrics >docs/METRICS.md.new && mv docs/METRICS.md.new docs/METRICS.md

fuzz-api: ## schemathesis against a throw-away platform: anonymous, user and admin
	@infra/local/fuzz-api

bench-all: ## every promise beside what this machine does, as one page: ARGS=--quick takes three minutes (needs a quiet machine)
	@infra/local/bench-all $(ARGS)

bench-backends: ## what PostgreSQL and Redis do alone and Millrace over them, side by side (needs a quiet machine)
	@infra/local/bench-backends

bench-overload: ## two and three times the peak, and connections until none is let in (needs a quiet machine)
	@infra/local/bench-overload

bench-points: ## points accepted and stored per second, how soon they can be read, and what reads cost (needs a quiet machine)
	@infra/local/bench-points

bench-sockets: ## what sockets cost and carry, beside bare actix-ws (needs a quiet machine)
	@infra/local/bench-sockets

reset: ## stop, then delete all data of this checkout (asks first; FORCE=1 does not)
	@infra/local/platform reset
