#!/bin/bash
# Runs a class of Kafka with the heap of KAFKA_HEAP_OPTS.
exec java ${KAFKA_HEAP_OPTS:--Xmx128m} -XX:-UsePerfData -Dlog4j2.configurationFile=/etc/kafka/docker/log4j2.yaml \
    -cp "/opt/kafka/libs/*" "$@"
