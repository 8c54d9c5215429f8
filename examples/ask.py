"""Asks prompts as one tenant and prints what becomes of each; needs aiokafka.

python ask.py localhost:9092 "" acme "Say hello." "Say goodbye."

Arguments: bootstrap servers, topic prefix (may be empty), tenant, prompts.
"""

import asyncio
import json
import sys
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

PATIENCE_S = 60


async def ask(servers: str, prefix: str, tenant: str, prompts: list[str]) -> None:
    """Publish each prompt and print its answer or error."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    async with consumer, producer:
        # Listen first, from where the topics end now, so that no answer is missed. No group: nobody is disturbed.
        topics = [f"{prefix}prompt.responses", f"{prefix}prompt.errors"]
        partitions = [TopicPartition(t, p) for t in topics for p in await producer.partitions_for(t)]
        consumer.assign(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, end)

        waiting = set()
        for prompt in prompts:
            request_id = str(uuid.uuid4())  # the same id again would be answered without a call
            request = {"request_id": request_id, "tenant": tenant, "prompt": prompt, "max_tokens": 64}
            await producer.send_and_wait(f"{prefix}prompt.requests", json.dumps(request).encode())
            waiting.add(request_id)
        async with asyncio.timeout(PATIENCE_S):
            while waiting:
                event = json.loads((await consumer.getone()).value)
                if event["request_id"] in waiting:  # a repetition is not heard twice
                    waiting.remove(event["request_id"])
                    print(event["type"], event["cost_usd"], event.get("text") or event.get("error"))


if __name__ == "__main__":
    asyncio.run(ask(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
