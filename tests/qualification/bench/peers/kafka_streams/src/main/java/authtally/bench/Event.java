package authtally.bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.time.DateTimeException;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import net.openhft.hashing.LongHashFunction;

/** One login or token event, read into the same object each time: the next read overwrites it. */
final class Event {
    static final class Bad extends Exception {
        Bad(String message) {
            super(message, null, false, false);
        }
    }

    private static final LongHashFunction HASH = LongHashFunction.xx3(0x5eed);
    private static final long EARLIEST_S = OffsetDateTime.parse("2000-01-01T00:00:00Z").toEpochSecond();
    private static final long MAX_AHEAD_S = 86_400;

    long day;
    String realm;
    String clientId;
    String reason;
    String grantType;
    /** The token types, separated by spaces. */
    String tokens;
    boolean success;
    boolean counted;
    boolean hasUser;
    long userHash;

    private final JsonFactory json = new JsonFactory();
    private long time;
    private boolean timed;
    private final char[] lastDate = new char[10];
    private long lastDay = Long.MIN_VALUE;

    void read(byte[] value, long recordMs) throws Bad {
        if (value == null) {
            throw new Bad("empty value");
        }
        realm = clientId = reason = grantType = tokens = null;
        success = counted = true;
        hasUser = timed = false;
        try (JsonParser parser = json.createParser(value)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw new Bad("not an object");
            }
            for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
                readField(name, parser);
            }
        } catch (IOException | DateTimeException wrong) {
            throw new Bad("not JSON, or a wrong time");
        }
        if (!timed || time < EARLIEST_S || time > recordMs / 1000 + MAX_AHEAD_S) {
            throw new Bad("no time, or an impossible one");
        }
    }

    private void readField(String name, JsonParser parser) throws IOException, Bad {
        JsonToken token = parser.nextToken();
        switch (name) {
            case "time" -> readTime(text(parser, token));
            case "user_id" -> {
                text(parser, token);
                userHash = HASH.hashChars(parser.getTextCharacters(), parser.getTextOffset(), parser.getTextLength());
                hasUser = parser.getTextLength() > 0;
            }
            case "realm" -> realm = text(parser, token).getText();
            case "client_id" -> clientId = text(parser, token).getText();
            case "reason" -> reason = text(parser, token).getText();
            case "grant_type" -> grantType = text(parser, token).getText();
            case "success" -> success = bool(token);
            case "counted" -> counted = bool(token);
            case "tokens" -> tokens = readTokens(parser, token);
            default -> parser.skipChildren();
        }
    }

    private static JsonParser text(JsonParser parser, JsonToken token) throws Bad {
        if (token != JsonToken.VALUE_STRING) {
            throw new Bad("not a string");
        }
        return parser;
    }

    private static boolean bool(JsonToken token) throws Bad {
        if (!token.isBoolean()) {
            throw new Bad("not a boolean");
        }
        return token == JsonToken.VALUE_TRUE;
    }

    private static String readTokens(JsonParser parser, JsonToken start) throws IOException, Bad {
        if (start != JsonToken.START_ARRAY) {
            throw new Bad("not an array");
        }
        String all = null;
        for (JsonToken token = parser.nextToken(); token != JsonToken.END_ARRAY; token = parser.nextToken()) {
            String one = text(parser, token).getText();
            all = all == null ? one : all + " " + one;
        }
        return all;
    }

    /** Reads `2026-11-10T08:15:30Z` by its digits; any other form through java.time, which takes a microsecond. */
    private void readTime(JsonParser parser) throws IOException {
        char[] text = parser.getTextCharacters();
        int at = parser.getTextOffset();
        int second = parser.getTextLength() == 20 && text[at + 19] == 'Z' ? secondOfDay(text, at) : -1;
        if (second < 0) {
            OffsetDateTime read = OffsetDateTime.parse(parser.getText());
            day = read.withOffsetSameInstant(ZoneOffset.UTC).toLocalDate().toEpochDay();
            time = read.toEpochSecond();
        } else {
            if (lastDay == Long.MIN_VALUE || !sameDate(text, at)) {
                lastDay = OffsetDateTime.parse(parser.getText()).toLocalDate().toEpochDay();
                System.arraycopy(text, at, lastDate, 0, lastDate.length);
            }
            day = lastDay;
            time = day * 86_400 + second;
        }
        timed = true;
    }

    private boolean sameDate(char[] text, int at) {
        // From the end, where dates differ.
        for (int place = lastDate.length - 1; place >= 0; place--) {
            if (text[at + place] != lastDate[place]) {
                return false;
            }
        }
        return true;
    }

    private static int secondOfDay(char[] text, int at) {
        int hour = pair(text, at + 11);
        int minute = pair(text, at + 14);
        int second = pair(text, at + 17);
        boolean valid = text[at + 10] == 'T' && text[at + 13] == ':' && text[at + 16] == ':';
        valid &= hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second < 60;
        return valid ? hour * 3600 + minute * 60 + second : -1;
    }

    private static int pair(char[] text, int at) {
        int tens = text[at] - '0';
        int ones = text[at + 1] - '0';
        return tens >= 0 && tens < 10 && ones >= 0 && ones < 10 ? tens * 10 + ones : -1000;
    }
}
