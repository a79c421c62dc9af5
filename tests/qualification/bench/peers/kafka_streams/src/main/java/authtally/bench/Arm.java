package authtally.bench;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Locale;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.atomic.LongAdder;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;

/**
 * Arm: Kafka Streams. Reads the sample and prints its speed and the month's committed figures as JSON.
 *
 * <p>With passes above 1 it reads the sample that often, each time as another application, and prints the last: then
 * the JVM has compiled what it runs.
 */
public final class Arm {
    private static final String MONTH = "2026-11";
    private static final Duration CLOSE = Duration.ofSeconds(60);
    private static final int POLL_MS = 20;

    private Arm() {}

    /** Arguments: bootstrap servers, number of events, folder for the state, passes. */
    public static void main(String[] arguments) throws Exception {
        String result = "";
        for (int left = Integer.parseInt(arguments[3]); left > 0; left--) {
            result = pass(arguments[0], Long.parseLong(arguments[1]), arguments[2]);
        }
        System.out.println(result);
    }

    private static String pass(String bootstrap, long events, String folder) throws InterruptedException, IOException {
        String application = "bench-" + UUID.randomUUID();
        LongAdder done = new LongAdder();
        KafkaStreams streams = new KafkaStreams(topology(done), config(bootstrap, application, folder));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.start();
        String speed = watch(done, events);
        if (!streams.close(CLOSE)) {
            throw new IllegalStateException("Kafka Streams did not close within " + CLOSE);
        }
        String changelog = application + "-" + FiguresStore.NAME + "-changelog";
        Committed committed = Committed.read(bootstrap, changelog, MONTH);
        if (committed.consumed != events) {
            throw new IllegalStateException("committed " + committed.consumed + " of " + events + " events");
        }
        String counts = committed.counts.entrySet().stream()
                .map(entry -> "\"" + entry.getKey() + "\": " + entry.getValue())
                .collect(Collectors.joining(", "));
        return String.format(
                Locale.ROOT,
                "{\"speed\": %s, \"counts\": {%s}, \"users\": %d, \"users_error\": %.6f}",
                speed,
                counts,
                committed.users.cardinality(),
                Figures.USERS_ERROR);
    }

    private static Topology topology(LongAdder done) {
        return new Topology()
                .addSource("events", new ByteArrayDeserializer(), new ByteArrayDeserializer(), Counting.LOGINS, Counting.TOKENS)
                .addProcessor("counting", () -> new Counting(done), "events")
                .addStateStore(new FiguresStore.Builder(), "counting");
    }

    private static Properties config(String bootstrap, String application, String folder) {
        Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        config.put(StreamsConfig.STATE_DIR_CONFIG, folder);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 << 20);
        // A task's two partitions are independent: neither waits for the other's timestamps.
        config.put(StreamsConfig.MAX_TASK_IDLE_MS_CONFIG, -1);
        config.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.RECEIVE_BUFFER_CONFIG), 1 << 20);
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.CHECK_CRCS_CONFIG), false);
        return config;
    }

    /** From the first progress seen to the last event, like tests/qualification/bench/measure.py. */
    private static String watch(LongAdder done, long events) throws InterruptedException, IOException {
        long first = 0;
        long begun = 0;
        long spent = 0;
        while (true) {
            long consumed = done.sum();
            if (consumed > 0 && first == 0) {
                first = consumed;
                begun = System.nanoTime();
                spent = cpuNanos();
            }
            if (consumed >= events) {
                return String.format(
                        Locale.ROOT,
                        "{\"events\": %d, \"wall_s\": %.6f, \"cpu_s\": %.6f, \"rss\": %d}",
                        consumed - first,
                        (System.nanoTime() - begun) / 1e9,
                        (cpuNanos() - spent) / 1e9,
                        rss());
            }
            Thread.sleep(POLL_MS);
        }
    }

    private static long cpuNanos() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    private static long rss() throws IOException {
        String resident = Files.readAllLines(Path.of("/proc/self/status")).stream()
                .filter(line -> line.startsWith("VmRSS:"))
                .findFirst()
                .orElseThrow();
        return Long.parseLong(resident.replaceAll("\\D", "")) * 1024;
    }
}
