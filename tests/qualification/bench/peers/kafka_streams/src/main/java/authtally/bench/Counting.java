package authtally.bench;

import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/**
 * Adds each event as the worker does with default settings: events of a day and a month, by everything, realm and
 * client; users of a day and a month, by everything and realm. Without limits on labels, like peers/additions.py.
 */
final class Counting extends ContextualProcessor<byte[], byte[], Void, Void> {
    static final String LOGINS = "bench.logins";
    static final String TOKENS = "bench.tokens";
    static final String PROGRESS = "progress";
    /** Combinations held per task; cleared when full. */
    private static final int MAX_CLASSES = 10_000;

    private record Key(
            boolean login,
            boolean success,
            boolean counted,
            long day,
            String realm,
            String clientId,
            String name,
            String tokens) {}

    /** Where events of one combination of day, labels and outcome are added. */
    private static final class EventClass {
        final List<String> fields = new ArrayList<>();
        final List<Figures> counted = new ArrayList<>();
        /** Each has a sketch. */
        Figures[] active = {};
        long events;
    }

    private final LongAdder done;
    private final Event event = new Event();
    private final Map<Key, EventClass> classes = new HashMap<>();
    private FiguresStore store;
    private long consumed;
    private long dead;

    Counting(LongAdder done) {
        this.done = done;
    }

    @Override
    public void init(ProcessorContext<Void, Void> context) {
        super.init(context);
        store = context.getStateStore(FiguresStore.NAME);
        store.beforeFlush(this::settle);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        consumed++;
        try {
            event.read(record.value(), record.timestamp());
            add(context().recordMetadata().orElseThrow().topic().equals(LOGINS));
        } catch (Event.Bad bad) {
            dead++;
        }
        done.increment();
    }

    private void add(boolean login) throws Event.Bad {
        if (login ? !event.hasUser : event.grantType == null || event.tokens == null) {
            throw new Event.Bad("a field is missing");
        }
        String name = login ? event.reason : event.grantType;
        Key key = new Key(
                login, event.success, event.counted, event.day, event.realm, event.clientId, name, event.tokens);
        EventClass found = classes.get(key);
        if (found == null) {
            found = classify(key);
        }
        found.events++;
        if (event.hasUser) {
            for (Figures figures : found.active) {
                figures.users.addRaw(event.userHash);
                figures.dirty = true;
            }
        }
    }

    private EventClass classify(Key key) {
        if (classes.size() == MAX_CLASSES) {
            settle();
            classes.clear();
        }
        EventClass made = new EventClass();
        if (!key.login) {
            for (String type : key.tokens.split(" ")) {
                made.fields.add("token/" + quoted(key.name) + "/" + quoted(type));
            }
        } else if (!key.success) {
            made.fields.add("failed/" + quoted(key.name == null ? "unspecified" : key.name));
        } else if (key.counted) {
            made.fields.add("login");
        }
        boolean activates = key.login ? key.success : key.name.equals("refresh_token");
        List<Figures> active = new ArrayList<>();
        String day = LocalDate.ofEpochDay(key.day).toString();
        for (String period : List.of(day, day.substring(0, "2026-11".length()))) {
            for (String scope : scopes(key)) {
                Figures figures = store.get(period + "/" + scope);
                made.counted.add(figures);
                if (activates && !scope.startsWith("client/")) {
                    figures.users();
                    active.add(figures);
                }
            }
        }
        made.active = active.toArray(made.active);
        classes.put(key, made);
        return made;
    }

    private static List<String> scopes(Key key) {
        List<String> scopes = new ArrayList<>(List.of("all"));
        String realm = key.realm == null ? "" : key.realm;
        if (!realm.isEmpty()) {
            scopes.add("realm/" + quoted(realm));
        }
        if (key.clientId != null && !key.clientId.isEmpty()) {
            scopes.add("client/" + quoted(realm) + "/" + quoted(key.clientId));
        }
        return scopes;
    }

    private static String quoted(String name) {
        return URLEncoder.encode(name, StandardCharsets.UTF_8);
    }

    /** Moves the events of all classes into the figures; before each commit. */
    private void settle() {
        for (EventClass one : classes.values()) {
            if (one.events == 0) {
                continue;
            }
            for (Figures figures : one.counted) {
                one.fields.forEach(field -> figures.add(field, one.events));
            }
            one.events = 0;
        }
        Figures progress = store.get(PROGRESS);
        progress.add("consumed", consumed);
        progress.add("dead", dead);
        consumed = dead = 0;
    }
}
