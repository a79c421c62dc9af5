import io.jans.as.common.model.common.User;
import io.jans.as.common.model.registration.Client;
import io.jans.as.common.model.session.SessionId;
import io.jans.as.model.common.GrantType;
import io.jans.as.server.model.common.AuthorizationGrant;
import io.jans.as.server.service.external.context.ExternalPostAuthnContext;
import io.jans.as.server.service.external.context.ExternalUpdateTokenContext;
import io.jans.model.SimpleCustomProperty;
import io.jans.model.custom.script.model.CustomScript;
import io.jans.model.custom.script.type.postauthn.PostAuthnType;
import io.jans.model.custom.script.type.token.UpdateTokenType;
import jakarta.servlet.http.HttpServletRequest;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Publishes events of Janssen Auth Server to authtally's POST /v1/events: tokens by grant type and kind as an
 * update-token script, logins as a post-authentication script. Use the same file for both; ../README.md has the steps.
 *
 * <p>It never delays or fails the server: events wait in a bounded queue for one background thread, events that do not
 * fit are counted and logged, and its methods throw no exceptions. Each event has an id, so an event that is sent twice
 * counts once.
 *
 * <p>There are no nested or anonymous classes, because Janssen loads exactly one class from a script.
 */
public class AuthtallyPublisher implements UpdateTokenType, PostAuthnType {

    private static final Logger log = LoggerFactory.getLogger(AuthtallyPublisher.class);

    private static final int BATCH = 500;
    private static final long FIRST_WAIT_MS = 250;
    private static final long LONGEST_WAIT_MS = 30_000;
    private static final String REFRESH = "refresh_token";

    private String url;
    private String token;
    private String tokenFile;
    private String realm;
    private String node;
    private boolean refreshIsItsOwnGrant;
    private long loginAgeMs;
    private int timeoutMs;

    private BlockingQueue<JSONObject> queue;
    private final AtomicLong lost = new AtomicLong();
    private Thread sender;
    private volatile boolean stopping;
    private boolean failing;

    @Override
    public boolean init(Map<String, SimpleCustomProperty> attributes) {
        return init(null, attributes);
    }

    /** Returns false if an attribute is missing or wrong; the product then reports the script as faulty. */
    @Override
    public boolean init(CustomScript script, Map<String, SimpleCustomProperty> attributes) {
        url = attribute(attributes, "url", "");
        token = attribute(attributes, "token", "");
        tokenFile = attribute(attributes, "token_file", "");
        realm = attribute(attributes, "realm", "");
        node = attribute(attributes, "node", hostname());
        String refreshAs = attribute(attributes, "refresh_as", "original");
        refreshIsItsOwnGrant = refreshAs.equals(REFRESH);
        try {
            new URL(url);
            if (token.isEmpty() && tokenFile.isEmpty()) {
                throw new IllegalArgumentException("token or token_file is needed");
            }
            if (!refreshIsItsOwnGrant && !refreshAs.equals("original")) {
                throw new IllegalArgumentException("refresh_as is original or refresh_token");
            }
            loginAgeMs = 1000L * number(attributes, "login_age_s", 3600);
            timeoutMs = number(attributes, "timeout_ms", 5000);
            queue = new ArrayBlockingQueue<>(number(attributes, "queue", 10_000));
        } catch (IOException | IllegalArgumentException e) {
            log.error("authtally: not publishing, an attribute is wrong: {}", e.getMessage());
            return false;
        }
        stopping = false;
        sender = new Thread(this::send, "authtally-publisher");
        sender.setDaemon(true);
        sender.start();
        log.info("authtally: publishing to {}", url);
        return true;
    }

    /** The background thread tries to send the waiting events once more. */
    @Override
    public boolean destroy(Map<String, SimpleCustomProperty> attributes) {
        stopping = true;
        if (sender != null) {
            sender.interrupt();
        }
        return true;
    }

    @Override
    public int getApiVersion() {
        return 11;
    }

    // Update token. True lets the server issue the token and run other scripts.

    @Override
    public boolean modifyAccessToken(Object accessToken, Object context) {
        issued("access_token", context);
        return true;
    }

    @Override
    public boolean modifyRefreshToken(Object refreshToken, Object context) {
        issued("refresh_token", context);
        return true;
    }

    @Override
    public boolean modifyIdToken(Object jsonWebResponse, Object context) {
        issued("id_token", context);
        return true;
    }

    @Override
    public int getAccessTokenLifetimeInSeconds(Object context) {
        return 0;
    }

    @Override
    public int getRefreshTokenLifetimeInSeconds(Object context) {
        return 0;
    }

    @Override
    public int getIdTokenLifetimeInSeconds(Object context) {
        return 0;
    }

    // Post-authentication. Called at every authorization request of a session; forces nothing.

    @Override
    public boolean forceReAuthentication(Object context) {
        authenticated(context);
        return false;
    }

    @Override
    public boolean forceAuthorization(Object context) {
        return false;
    }

    private void issued(String kind, Object context) {
        try {
            ExternalUpdateTokenContext of = (ExternalUpdateTokenContext) context;
            AuthorizationGrant grant = of.getGrant();
            HttpServletRequest request = of.getHttpRequest();
            boolean refreshing = request != null && REFRESH.equals(request.getParameter("grant_type"));
            GrantType type = grant.getGrantType();
            String original = type == null ? "none" : type.getValue();
            JSONObject event = event("token", Instant.ofEpochMilli(System.currentTimeMillis()), grant.getClientId());
            event.put("grant_type", refreshing && refreshIsItsOwnGrant ? REFRESH : original);
            event.put("tokens", new JSONArray().put(kind));
            String user = grant.getUserId();
            if (user != null && !user.isEmpty()) {
                event.put("user_id", user);
                // A refresh counted under its original grant makes no user active here, but it does in Janssen's own
                // statistics, so report the activity separately.
                if (refreshing && !refreshIsItsOwnGrant && kind.equals("access_token")) {
                    JSONObject activity = event("login", Instant.parse(event.getString("time")), grant.getClientId());
                    publish(activity.put("user_id", user).put("counted", false));
                }
            }
            publish(event);
        } catch (RuntimeException | LinkageError e) {
            log.error("authtally: a token is not counted", e);
        }
    }

    private void authenticated(Object context) {
        try {
            ExternalPostAuthnContext of = (ExternalPostAuthnContext) context;
            SessionId session = of.getSession();
            if (session == null || session.getAuthenticationTime() == null) {
                return;
            }
            long at = session.getAuthenticationTime().getTime();
            User user = session.getUser();
            String name = user != null ? user.getUserId() : session.getSessionAttributes().get("auth_user");
            // Later requests of a session repeat its login, which was reported when the session began.
            if (name == null || name.isEmpty() || System.currentTimeMillis() - at > loginAgeMs) {
                return;
            }
            Client client = of.getClient();
            JSONObject event = event("login", Instant.ofEpochMilli(at), client == null ? null : client.getClientId());
            // The id is the same for every request of the session, so its login counts once. It is a digest, because
            // the session's id gives access to the session.
            publish(event.put("user_id", name).put("id", digest(session.getId() + " " + at)));
        } catch (RuntimeException | LinkageError e) {
            log.error("authtally: a login is not counted", e);
        }
    }

    private JSONObject event(String type, Instant time, String clientId) {
        JSONObject event = new JSONObject();
        event.put("type", type).put("time", time.toString()).put("id", UUID.randomUUID().toString());
        event.put("node", node).putOpt("client_id", clientId);
        return realm.isEmpty() ? event : event.put("realm", realm);
    }

    private void publish(JSONObject event) {
        if (!queue.offer(event)) {
            lost.incrementAndGet();
        }
    }

    private void send() {
        List<JSONObject> batch = new ArrayList<>();
        long wait = FIRST_WAIT_MS;
        while (true) {
            try {
                if (batch.isEmpty()) {
                    JSONObject first = stopping ? queue.poll() : queue.poll(1, TimeUnit.SECONDS);
                    if (first == null && stopping) {
                        return;
                    }
                    if (first == null) {
                        continue;
                    }
                    batch.add(first);
                    queue.drainTo(batch, BATCH - 1);
                }
                if (post(batch)) {
                    batch.clear();
                    wait = FIRST_WAIT_MS;
                } else if (stopping) {
                    log.warn("authtally: {} events are lost at the end", batch.size() + queue.size());
                    return;
                } else {
                    Thread.sleep(wait);
                    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
                }
            } catch (InterruptedException e) {
                // The script ends: send the rest without waiting.
            } catch (RuntimeException | LinkageError e) {
                log.error("authtally: {} events are lost", batch.size(), e);
                batch.clear();
            }
        }
    }

    /** Returns whether the batch is finished: accepted, or refused such that a retry cannot succeed. */
    private boolean post(List<JSONObject> batch) {
        int status = 0;
        String answer = "";
        try {
            HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
            connection.setConnectTimeout(timeoutMs);
            connection.setReadTimeout(timeoutMs);
            connection.setInstanceFollowRedirects(false);
            connection.setDoOutput(true);
            connection.setRequestMethod("POST");
            connection.setRequestProperty("Content-Type", "application/json");
            connection.setRequestProperty("Authorization", "Bearer " + bearer());
            byte[] body = new JSONArray(batch).toString().getBytes(StandardCharsets.UTF_8);
            connection.setFixedLengthStreamingMode(body.length);
            try (OutputStream out = connection.getOutputStream()) {
                out.write(body);
            }
            status = connection.getResponseCode();
            try (InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
                answer = in == null ? "" : new String(in.readAllBytes(), StandardCharsets.UTF_8);
            }
        } catch (IOException | IllegalArgumentException e) {
            answer = e.toString();
        }
        if (status == 202) {
            taken(answer);
            return true;
        }
        boolean hopeless = status >= 400 && status < 500 && status != 401 && status != 403 && status != 408 && status != 429;
        if (hopeless) {
            log.error("authtally: {} events are refused with {}: {}", batch.size(), status, shortened(answer));
        } else if (!failing) {
            failing = true;
            log.warn("authtally: publishing fails and is retried, {}: {}", status, shortened(answer));
        }
        return hopeless;
    }

    private void taken(String answer) {
        if (failing) {
            failing = false;
            log.info("authtally: publishing again");
        }
        long dropped = lost.getAndSet(0);
        if (dropped > 0) {
            log.warn("authtally: {} events did not fit into the queue and are lost", dropped);
        }
        try {
            JSONArray rejected = new JSONObject(answer).optJSONArray("rejected");
            if (rejected != null && rejected.length() > 0) {
                log.error("authtally: {} events are rejected: {}", rejected.length(), shortened(rejected.toString()));
            }
        } catch (JSONException e) {
            log.debug("authtally: accepted, with an answer that is not JSON");
        }
    }

    /** A file is read again for every batch, because tokens are renewed. */
    private String bearer() throws IOException {
        if (tokenFile.isEmpty()) {
            return token;
        }
        return new String(Files.readAllBytes(Paths.get(tokenFile)), StandardCharsets.UTF_8).trim();
    }

    private static String attribute(Map<String, SimpleCustomProperty> attributes, String name, String otherwise) {
        SimpleCustomProperty property = attributes == null ? null : attributes.get(name);
        String value = property == null ? null : property.getValue2();
        return value == null || value.trim().isEmpty() ? otherwise : value.trim();
    }

    private static int number(Map<String, SimpleCustomProperty> attributes, String name, int otherwise) {
        String value = attribute(attributes, name, String.valueOf(otherwise));
        if (!value.matches("[1-9][0-9]{0,6}")) {
            throw new IllegalArgumentException(name + " is no number from 1 to 9999999");
        }
        return Integer.parseInt(value);
    }

    private static String hostname() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (IOException e) {
            return "unknown";
        }
    }

    private static String digest(String text) {
        try {
            byte[] bytes = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
            StringBuilder hex = new StringBuilder("login-");
            for (int i = 0; i < 16; i++) {
                hex.append(String.format("%02x", bytes[i]));
            }
            return hex.toString();
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    private static String shortened(String text) {
        return text.length() > 300 ? text.substring(0, 300) + "…" : text;
    }
}
