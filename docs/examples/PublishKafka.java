// Sends one event to Kafka. The key keeps repeated sends in one partition, where the id counts once.
import java.time.Instant;
import java.util.Map;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.StringSerializer;

class PublishKafka {
    public static void main(String[] arguments) throws Exception {
        String event = """
            {"time": "%s", "user_id": "ada", "realm": "acme", "id": "shop:4711"}"""
            .formatted(Instant.now());
        Map<String, Object> settings = Map.of("bootstrap.servers", System.getenv("KAFKA"));
        StringSerializer text = new StringSerializer();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, text, text)) {
            producer.send(new ProducerRecord<>("auth.logins", "shop:4711", event)).get();
        }
        System.out.println("acknowledged");
    }
}
