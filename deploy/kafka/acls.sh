#!/usr/bin/env bash
# Who may do what on the cluster: prints or applies the ACLs of one installation. Tried on Apache Kafka 4.3.1.
#
#     deploy/kafka/acls.sh                                   # prints the commands
#     BOOTSTRAP=kafka:9093 COMMAND_CONFIG=admin.properties deploy/kafka/acls.sh | bash
#
# PREFIX and GROUP are kafka.topic_prefix and kafka.group; principals are those of your listeners. Write access to
# prompt.requests lets its holder ask, and spend, as any tenant. Write access to any other topic forges outcomes.
set -euo pipefail

PREFIX=${PREFIX:-}
GROUP=${GROUP:-orchestrator}
WORKER=${WORKER:-User:orchestrator}    # worker, up, verify, topics apply
PRODUCER=${PRODUCER:-User:asks}        # programs that ask
READER=${READER:-User:hears}           # programs that hear answers
FINANCE=${FINANCE:-User:finance}       # reads costs and the ledger
BOOTSTRAP=${BOOTSTRAP:-localhost:9092}
COMMAND_CONFIG=${COMMAND_CONFIG:-}

acl() {
    printf 'kafka-acls.sh --bootstrap-server %q' "$BOOTSTRAP"
    [ -z "$COMMAND_CONFIG" ] || printf ' --command-config %q' "$COMMAND_CONFIG"
    printf ' --add --allow-principal %q' "$1"
    shift
    printf ' %q' "$@"
    printf '\n'
}

own=(prompt.requests prompt.progress prompt.responses prompt.errors prompt.costs prompt.deadletters ledger.entries
    model.observations model.health "$GROUP-accounts-changelog" "$GROUP-health-changelog")
for topic in "${own[@]}"; do
    # The changelogs carry the prefix as well: it is part of the group's full name.
    acl "$WORKER" --operation Read --operation Write --operation Describe --operation DescribeConfigs \
        --topic "$PREFIX$topic"
    acl "$WORKER" --operation Create --operation AlterConfigs --topic "$PREFIX$topic" # for `topics apply` alone
done
acl "$WORKER" --operation Read --operation Describe --group "$PREFIX$GROUP"
acl "$WORKER" --operation IdempotentWrite --cluster

acl "$PRODUCER" --operation Write --operation Describe --topic "${PREFIX}prompt.requests"
acl "$PRODUCER" --operation IdempotentWrite --cluster

for topic in prompt.responses prompt.errors prompt.deadletters; do
    acl "$READER" --operation Read --operation Describe --topic "$PREFIX$topic"
done
acl "$READER" --operation Read --group "${PREFIX}hears-" --resource-pattern-type prefixed

for topic in prompt.costs ledger.entries; do
    acl "$FINANCE" --operation Read --operation Describe --topic "$PREFIX$topic"
done
acl "$FINANCE" --operation Read --group "${PREFIX}finance-" --resource-pattern-type prefixed
