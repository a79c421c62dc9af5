package authtally.bench;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import net.agkn.hll.HLL;

/** The counters and active users of one period and scope, and their bytes in the store. */
final class Figures {
    /** Janssen's: 32,768 registers of five bits, a standard error of 0.57 %. */
    static final int LOG2M = 15;

    static final int REGISTER_BITS = 5;
    static final double USERS_ERROR = 1.04 / Math.sqrt(1 << LOG2M);

    final Map<String, Long> counts = new HashMap<>();
    HLL users;
    boolean dirty;

    HLL users() {
        if (users == null) {
            users = new HLL(LOG2M, REGISTER_BITS);
        }
        return users;
    }

    void add(String field, long events) {
        counts.merge(field, events, Long::sum);
        dirty = true;
    }

    byte[] bytes() {
        int size = Integer.BYTES;
        Map<byte[], Long> fields = new HashMap<>();
        for (Map.Entry<String, Long> entry : counts.entrySet()) {
            byte[] name = entry.getKey().getBytes(StandardCharsets.UTF_8);
            fields.put(name, entry.getValue());
            size += Integer.BYTES + name.length + Long.BYTES;
        }
        byte[] sketch = users == null ? new byte[0] : users.toBytes();
        ByteBuffer buffer = ByteBuffer.allocate(size + sketch.length).putInt(fields.size());
        fields.forEach((name, events) -> buffer.putInt(name.length).put(name).putLong(events));
        return buffer.put(sketch).array();
    }

    static Figures of(byte[] bytes) {
        Figures figures = new Figures();
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        for (int left = buffer.getInt(); left > 0; left--) {
            byte[] name = new byte[buffer.getInt()];
            buffer.get(name);
            figures.counts.put(new String(name, StandardCharsets.UTF_8), buffer.getLong());
        }
        if (buffer.hasRemaining()) {
            figures.users = HLL.fromBytes(Arrays.copyOfRange(bytes, buffer.position(), bytes.length));
        }
        return figures;
    }
}
