package authtally.bench;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import net.agkn.hll.HLL;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** What a restart would restore: the committed figures of all tasks, read from the changelog topic. */
final class Committed {
    final Map<String, Long> counts = new TreeMap<>();
    final HLL users = new HLL(Figures.LOG2M, Figures.REGISTER_BITS);
    long consumed;

    /** `month` is like `2026-11`. */
    static Committed read(String bootstrap, String changelog, String month) {
        Map<String, byte[]> last = new HashMap<>();
        Map<String, Object> config =
                Map.of("bootstrap.servers", bootstrap, "isolation.level", "read_committed", "auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(changelog).stream()
                    .map(info -> new TopicPartition(info.topic(), info.partition()))
                    .toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    last.put(record.partition() + ":" + record.key(), record.value());
                }
            }
        }
        Committed found = new Committed();
        last.forEach((key, value) -> found.add(key.substring(key.indexOf(':') + 1), Figures.of(value), month));
        return found;
    }

    private void add(String key, Figures figures, String month) {
        if (key.equals(Counting.PROGRESS)) {
            consumed += figures.counts.get("consumed");
        } else if (key.equals(month + "/all")) {
            figures.counts.forEach((field, events) -> counts.merge(field, events, Long::sum));
            if (figures.users != null) {
                users.union(figures.users);
            }
        }
    }
}
