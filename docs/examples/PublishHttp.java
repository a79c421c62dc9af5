// Sends one event over HTTP. Sending it again is safe: events with the same id count once.
import java.net.URI;
import java.net.http.*;
import java.time.Instant;

class PublishHttp {
    public static void main(String[] arguments) throws Exception {
        String event = """
            {"type": "login", "time": "%s", "user_id": "ada", "realm": "acme", "id": "shop:4711"}"""
            .formatted(Instant.now());
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("AUTHTALLY_URL") + "/v1/events"))
            .header("Authorization", "Bearer " + System.getenv("AUTHTALLY_TOKEN"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(event)).build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.body());
        System.exit(answer.statusCode() == 202 ? 0 : 1);
    }
}
