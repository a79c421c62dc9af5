"""The image, the Compose file and the pods of Kubernetes, run by Podman with real servers: `make container`."""
