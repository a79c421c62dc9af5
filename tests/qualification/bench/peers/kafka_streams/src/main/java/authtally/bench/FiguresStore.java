package authtally.bench;

import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.processor.StateStoreContext;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.internals.CacheFlushListener;
import org.apache.kafka.streams.state.internals.CachedStateStore;

/**
 * Figures as objects on the heap, in front of a RocksDB store with a changelog and the record cache.
 *
 * <p>Kafka Streams flushes caches before each commit, in the commit's transaction. Only then are changed figures encoded:
 * a sketch has 20 KB, too much to encode for each event. CachedStateStore is internal to Kafka Streams; no public
 * interface is called before every commit, the one of a rebalance included.
 */
final class FiguresStore implements StateStore, CachedStateStore<String, byte[]> {
    static final String NAME = "figures";

    private final KeyValueStore<String, byte[]> inner;
    private final Map<String, Figures> held = new HashMap<>();
    private Runnable beforeFlush = () -> {};

    private FiguresStore(KeyValueStore<String, byte[]> inner) {
        this.inner = inner;
    }

    /** `settle` runs before each flush, and adds what its owner has not added yet. */
    void beforeFlush(Runnable settle) {
        beforeFlush = settle;
    }

    Figures get(String key) {
        return held.computeIfAbsent(key, name -> {
            byte[] stored = inner.get(name);
            return stored == null ? new Figures() : Figures.of(stored);
        });
    }

    @Override
    public void flushCache() {
        beforeFlush.run();
        held.forEach((key, figures) -> {
            if (figures.dirty) {
                inner.put(key, figures.bytes());
                figures.dirty = false;
            }
        });
        ((CachedStateStore<?, ?>) inner).flushCache();
    }

    @Override
    public void clearCache() {
        held.clear();
        ((CachedStateStore<?, ?>) inner).clearCache();
    }

    @Override
    public boolean setFlushListener(CacheFlushListener<String, byte[]> listener, boolean sendOldValues) {
        return false;
    }

    @Override
    public String name() {
        return inner.name();
    }

    @Override
    public void init(StateStoreContext context, StateStore root) {
        inner.init(context, root);
    }

    @Override
    public void flush() {
        inner.flush();
    }

    @Override
    public void close() {
        held.clear();
        inner.close();
    }

    @Override
    public boolean persistent() {
        return inner.persistent();
    }

    @Override
    public boolean isOpen() {
        return inner.isOpen();
    }

    static final class Builder implements StoreBuilder<FiguresStore> {
        private final StoreBuilder<KeyValueStore<String, byte[]>> inner =
                Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(NAME), Serdes.String(), Serdes.ByteArray())
                        .withCachingEnabled()
                        .withLoggingEnabled(Map.of());

        @Override
        public FiguresStore build() {
            return new FiguresStore(inner.build());
        }

        @Override
        public StoreBuilder<FiguresStore> withCachingEnabled() {
            inner.withCachingEnabled();
            return this;
        }

        @Override
        public StoreBuilder<FiguresStore> withCachingDisabled() {
            throw new UnsupportedOperationException("figures are always cached");
        }

        @Override
        public StoreBuilder<FiguresStore> withLoggingEnabled(Map<String, String> config) {
            inner.withLoggingEnabled(config);
            return this;
        }

        @Override
        public StoreBuilder<FiguresStore> withLoggingDisabled() {
            inner.withLoggingDisabled();
            return this;
        }

        @Override
        public Map<String, String> logConfig() {
            return inner.logConfig();
        }

        @Override
        public boolean loggingEnabled() {
            return inner.loggingEnabled();
        }

        @Override
        public String name() {
            return inner.name();
        }
    }
}
