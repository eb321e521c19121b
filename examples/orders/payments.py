#!/usr/bin/env python3
"""Answers payments in place of the payment service, through Kafka alone.

Reads StockReserved from the topic `inventory` and answers PaymentAnswered on `payments`. It shares nothing with the
pipeline but the JSON and the key.

    pip install confluent-kafka
    python payments.py --kafka 127.0.0.1:9092                     # headers as the pipeline writes them
    python payments.py --kafka 127.0.0.1:9092 --without-headers   # a key and a payload, nothing else

Answers and read offsets are one Kafka transaction, so that this program too answers each order exactly once,
whenever it is killed. An answer without headers has no id: nobody downstream could tell a second one from the first.
"""

import argparse
import json
import signal
import sys
import uuid

from confluent_kafka import Consumer, Producer

NAME = "payments.py"
LIMIT_CENTS = 50_000  # the rule of this program: what costs more is declined


def main() -> None:
    options = arguments()
    consumer = Consumer({
        "bootstrap.servers": options.kafka,
        "group.id": NAME,
        "group.instance.id": NAME,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    })
    producer = Producer({
        "bootstrap.servers": options.kafka,
        "transactional.id": NAME,
        "transaction.timeout.ms": 15_000,
        # As Java's clients do it and the pipeline too: a key always goes to the same partition.
        "partitioner": "murmur2_random",
    })
    producer.init_transactions()
    consumer.subscribe(["inventory"])
    running = True

    def stop(*_):
        nonlocal running
        running = False

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    answered = {"taken": 0, "declined": 0}
    while running:
        records = consumer.consume(num_messages=500, timeout=0.2)
        if not records:
            continue
        for record in records:
            if record.error():
                sys.exit(f"{NAME}: {record.error()}")
        # Any error ends the program: the transaction is then aborted and its records are read again.
        producer.begin_transaction()
        for record in records:
            if header(record, "ce_type") == "StockReserved":
                answered[answer(producer, record, options.headers)] += 1
        offsets = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(
            [each for each in offsets if each.offset >= 0], consumer.consumer_group_metadata())
        producer.commit_transaction()
        print(f"answered: {answered['taken']} taken, {answered['declined']} declined", flush=True)
    consumer.close()


def answer(producer: Producer, record, with_headers: bool) -> str:
    order = json.loads(record.value())
    result = "taken" if order["amount_cents"] <= LIMIT_CENTS else "declined"
    payload = {"order_id": order["order_id"], "result": result, "amount_cents": order["amount_cents"]}
    headers = None
    if with_headers:
        headers = {
            "ce_specversion": "1.0",
            # The same answer always has the same id, so that a reader can tell when it comes twice.
            "ce_id": str(uuid.uuid5(uuid.UUID(order["order_id"]), "payment")),
            "ce_source": "/" + NAME,
            "ce_type": "PaymentAnswered",
            "content-type": "application/json",
        }
    producer.produce("payments", key=record.key(), value=json.dumps(payload), headers=headers)
    return result


def header(record, name: str) -> str | None:
    values = [value for each, value in record.headers() or [] if each == name]
    return values[-1].decode() if values and values[-1] is not None else None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kafka", required=True, help="brokers, host:port separated by commas")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--with-headers", dest="headers", action="store_true", default=True)
    which.add_argument("--without-headers", dest="headers", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    main()
