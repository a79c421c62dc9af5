"""What the scripts see of Janssen and Gluu, as Java sources by path: the types and getters, nothing behind."""

from __future__ import annotations

from typing import Final

BASE: Final = """
package {root}.model.custom.script.type;
public interface BaseExternalType {{
    boolean init(java.util.Map<String, {attribute}> attributes);
    boolean init({script} script, java.util.Map<String, {attribute}> attributes);
    boolean destroy(java.util.Map<String, {attribute}> attributes);
    int getApiVersion();
}}
"""
UPDATE_TOKEN: Final = """
package {root}.model.custom.script.type.token;
public interface UpdateTokenType extends {root}.model.custom.script.type.BaseExternalType {{
    boolean modifyIdToken(Object jsonWebResponse, Object tokenContext);
    boolean modifyRefreshToken(Object refreshToken, Object tokenContext);
    boolean modifyAccessToken(Object accessToken, Object tokenContext);
    int getRefreshTokenLifetimeInSeconds(Object tokenContext);
    int getIdTokenLifetimeInSeconds(Object context);
    int getAccessTokenLifetimeInSeconds(Object context);
}}
"""
POST_AUTHN: Final = """
package {root}.model.custom.script.type.postauthn;
public interface PostAuthnType extends {root}.model.custom.script.type.BaseExternalType {{
    boolean forceReAuthentication(Object context);
    boolean forceAuthorization(Object context);
}}
"""

CLASSES: Final = """
jakarta.servlet.http.HttpServletRequest: interface
    String getParameter(String name);
io.jans.model.SimpleCustomProperty: class
    private final String value2;
    public SimpleCustomProperty(String value2) { this.value2 = value2; }
    public String getValue2() { return value2; }
io.jans.model.custom.script.model.CustomScript: class
io.jans.as.model.common.GrantType: class
    private final String value;
    public GrantType(String value) { this.value = value; }
    public String getValue() { return value; }
io.jans.as.common.model.common.User: class
    private final String userId;
    public User(String userId) { this.userId = userId; }
    public String getUserId() { return userId; }
io.jans.as.common.model.registration.Client: class
    private final String clientId;
    public Client(String clientId) { this.clientId = clientId; }
    public String getClientId() { return clientId; }
io.jans.as.common.model.session.SessionId: class
    private final String id;
    private final io.jans.as.common.model.common.User user;
    private final java.util.Date authenticationTime;
    private final java.util.Map<String, String> attributes;
    public SessionId(String id, io.jans.as.common.model.common.User user, java.util.Date authenticationTime,
            java.util.Map<String, String> attributes) {
        this.id = id; this.user = user; this.authenticationTime = authenticationTime; this.attributes = attributes;
    }
    public String getId() { return id; }
    public io.jans.as.common.model.common.User getUser() { return user; }
    public java.util.Date getAuthenticationTime() { return authenticationTime; }
    public java.util.Map<String, String> getSessionAttributes() { return attributes; }
io.jans.as.server.model.common.AuthorizationGrant: class
    private final io.jans.as.model.common.GrantType grantType;
    private final String userId;
    private final String clientId;
    public AuthorizationGrant(io.jans.as.model.common.GrantType grantType, String userId, String clientId) {
        this.grantType = grantType; this.userId = userId; this.clientId = clientId;
    }
    public io.jans.as.model.common.GrantType getGrantType() { return grantType; }
    public String getUserId() { return userId; }
    public String getClientId() { return clientId; }
io.jans.as.server.service.external.context.ExternalUpdateTokenContext: class
    private final io.jans.as.server.model.common.AuthorizationGrant grant;
    private final jakarta.servlet.http.HttpServletRequest request;
    public ExternalUpdateTokenContext(io.jans.as.server.model.common.AuthorizationGrant grant,
            jakarta.servlet.http.HttpServletRequest request) { this.grant = grant; this.request = request; }
    public io.jans.as.server.model.common.AuthorizationGrant getGrant() { return grant; }
    public jakarta.servlet.http.HttpServletRequest getHttpRequest() { return request; }
io.jans.as.server.service.external.context.ExternalPostAuthnContext: class
    private final io.jans.as.common.model.registration.Client client;
    private final io.jans.as.common.model.session.SessionId session;
    public ExternalPostAuthnContext(io.jans.as.common.model.registration.Client client,
            io.jans.as.common.model.session.SessionId session) { this.client = client; this.session = session; }
    public io.jans.as.common.model.registration.Client getClient() { return client; }
    public io.jans.as.common.model.session.SessionId getSession() { return session; }
"""

ATTRIBUTE: Final = "io.jans.model.SimpleCustomProperty"
SCRIPT: Final = "io.jans.model.custom.script.model.CustomScript"


def sources(root: str) -> dict[str, str]:
    """The three interfaces of a product by path; `root` is `io.jans` or `org.gluu`."""
    found = {}
    for package, template in (("", BASE), (".token", UPDATE_TOKEN), (".postauthn", POST_AUTHN)):
        name = template.partition("interface ")[2].split()[0]
        path = f"{root}.model.custom.script.type{package}".replace(".", "/")
        found[f"{path}/{name}.java"] = template.format(root=root, attribute=ATTRIBUTE, script=SCRIPT)
    return found


def classes() -> dict[str, str]:
    """The classes that the interfaces and the scripts name, by path. Jython asks for none of them by its package."""
    found: dict[str, str] = {}
    path = ""
    for line in CLASSES.strip().splitlines():
        if line.startswith(" "):
            found[path] += f"{line}\n"
        else:
            name, _, kind = line.partition(": ")
            package, _, simple = name.rpartition(".")
            path = f"{name.replace('.', '/')}.java"
            found[path] = f"package {package};\npublic {kind} {simple} {{\n"
    return {path: f"{source}}}\n" for path, source in found.items()}
