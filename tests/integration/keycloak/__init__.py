"""A real Keycloak whose events are counted."""
