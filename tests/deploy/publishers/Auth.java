import io.jans.as.common.model.common.User;
import io.jans.as.common.model.registration.Client;
import io.jans.as.common.model.session.SessionId;
import io.jans.as.model.common.GrantType;
import io.jans.as.server.model.common.AuthorizationGrant;
import io.jans.as.server.service.external.context.ExternalPostAuthnContext;
import io.jans.as.server.service.external.context.ExternalUpdateTokenContext;
import io.jans.model.SimpleCustomProperty;
import io.jans.model.custom.script.model.CustomScript;
import jakarta.servlet.http.HttpServletRequest;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.Date;
import java.util.HashMap;
import java.util.Map;
import org.json.JSONObject;
import org.python.core.PyLong;
import org.python.core.PyObject;
import org.python.util.PythonInterpreter;

/**
 * In the place of an auth server: loads a script as the product does, and does with it what each line of its input
 * says. Answers each with what the script answered and how long it took.
 */
public class Auth {

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> scripts = new HashMap<>();
        PythonInterpreter interpreter = arguments[0].endsWith(".class") ? null : interpreter(arguments[0]);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JSONObject call = new JSONObject(line);
            String type = call.getString("script");
            String name = type + call.getInt("number");
            if (!scripts.containsKey(name)) {
                scripts.put(name, made(interpreter, type));
            }
            Object script = scripts.get(name);
            Object[] given = given(call);
            Method method = method(script, call.getString("do"), given.length);
            long started = System.nanoTime();
            Object answer = method.invoke(script, given);
            double took = (System.nanoTime() - started) / 1e9;
            System.out.println(new JSONObject().put("answer", answer).put("took_s", took));
        }
    }

    private static PythonInterpreter interpreter(String path) throws Exception {
        PythonInterpreter interpreter = new PythonInterpreter();
        // What a script prints, the product logs.
        interpreter.setOut(System.err);
        interpreter.execfile(new FileInputStream(path), "script.py");
        return interpreter;
    }

    private static Object made(PythonInterpreter interpreter, String type) throws Exception {
        if (interpreter == null) {
            return Class.forName("AuthtallyPublisher").getDeclaredConstructor().newInstance();
        }
        PyObject made = interpreter.get(type).__call__(new PyObject[] {new PyLong(System.currentTimeMillis())});
        String name = type.equals("UpdateToken") ? "token.UpdateTokenType" : "postauthn.PostAuthnType";
        return made.__tojava__(Class.forName("org.gluu.model.custom.script.type." + name));
    }

    private static Method method(Object script, String name, int parameters) {
        for (Method method : script.getClass().getMethods()) {
            if (method.getName().equals(name) && method.getParameterCount() == parameters) {
                method.setAccessible(true);
                return method;
            }
        }
        throw new IllegalArgumentException(name);
    }

    private static Object[] given(JSONObject call) {
        switch (call.getString("do")) {
            case "init":
                return new Object[] {new CustomScript(), attributes(call)};
            case "destroy":
                return new Object[] {attributes(call)};
            case "getApiVersion":
                return new Object[0];
            case "forceReAuthentication":
            case "forceAuthorization":
                return new Object[] {authentication(call)};
            default:
                return new Object[] {new Object(), token(call)};
        }
    }

    private static Map<String, SimpleCustomProperty> attributes(JSONObject call) {
        Map<String, SimpleCustomProperty> attributes = new HashMap<>();
        JSONObject given = call.optJSONObject("attributes", new JSONObject());
        given.keySet().forEach(name -> attributes.put(name, new SimpleCustomProperty(given.getString(name))));
        return attributes;
    }

    private static Object token(JSONObject call) {
        if (call.has("broken")) {
            return new ExternalUpdateTokenContext(null, null);
        }
        GrantType type = call.has("grant") ? new GrantType(call.getString("grant")) : null;
        String client = call.optString("client", null);
        HttpServletRequest request = name -> call.optString(name, null);
        AuthorizationGrant grant = new AuthorizationGrant(type, call.optString("user", null), client);
        return new ExternalUpdateTokenContext(grant, call.has("grant_type") ? request : null);
    }

    private static Object authentication(JSONObject call) {
        if (call.has("broken")) {
            return new Object();
        }
        Map<String, String> attributes = new HashMap<>();
        attributes.put("auth_user", call.optString("auth_user", null));
        Date at = call.has("at") ? new Date(call.getLong("at")) : null;
        User user = call.has("user") ? new User(call.getString("user")) : null;
        Client client = call.has("client") ? new Client(call.getString("client")) : null;
        return new ExternalPostAuthnContext(client, new SessionId(call.optString("session"), user, at, attributes));
    }
}
