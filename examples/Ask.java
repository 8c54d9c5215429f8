// Asks prompts as one tenant and prints what becomes of each. Needs kafka-clients and slf4j-api on the class path:
//
//     java -cp 'libs/*' Ask.java localhost:9092 "" acme "Say hello." "Say goodbye."
//
// Arguments: bootstrap servers, topic prefix (may be empty), tenant, prompts.

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Ask {
    static final Duration PATIENCE = Duration.ofSeconds(60);

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0], prefix = arguments[1], tenant = arguments[2];
        Map<String, Object> producing = Map.of(
            "bootstrap.servers", servers,
            "acks", "all",
            "key.serializer", StringSerializer.class,
            "value.serializer", StringSerializer.class);
        Map<String, Object> consuming = Map.of(
            "bootstrap.servers", servers,
            "key.deserializer", StringDeserializer.class,
            "value.deserializer", StringDeserializer.class);
        try (var producer = new KafkaProducer<String, String>(producing);
            var consumer = new KafkaConsumer<String, String>(consuming)) {
            // Listen first, from where the topics end now, so that no answer is missed. No group: nobody is disturbed.
            List<TopicPartition> heard = new ArrayList<>();
            for (String topic : List.of(prefix + "prompt.responses", prefix + "prompt.errors")) {
                for (PartitionInfo partition : consumer.partitionsFor(topic)) {
                    heard.add(new TopicPartition(topic, partition.partition()));
                }
            }
            consumer.assign(heard);
            consumer.seekToEnd(heard);
            heard.forEach(consumer::position); // seeking is lazy

            Map<String, Integer> asked = new HashMap<>();
            for (int n = 3; n < arguments.length; n++) {
                String id = UUID.randomUUID().toString(); // the same id again would be answered without a call
                String value = "{\"request_id\": \"%s\", \"tenant\": \"%s\", \"prompt\": %s, \"max_tokens\": 64}"
                    .formatted(id, tenant, quoted(arguments[n]));
                var record = new ProducerRecord<>(prefix + "prompt.requests", id, value);
                asked.put(id, producer.send(record).get().partition());
            }
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (!asked.isEmpty() && System.nanoTime() < deadline) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    Integer partition = asked.remove(record.key()); // a repetition is not heard twice
                    if (partition != null) {
                        String type = new String(record.headers().lastHeader("ce_type").value());
                        System.out.printf("%s %d %d %s%n", type, partition, record.partition(), record.value());
                    }
                }
            }
            if (!asked.isEmpty()) {
                System.err.println("no outcome in time: " + asked.keySet());
                System.exit(1);
            }
        }
    }

    static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            json.append(c == '"' || c == '\\' ? "\\" + c : c < ' ' ? "\\u%04x".formatted((int) c) : String.valueOf(c));
        }
        return json.append('"').toString();
    }
}
