"""Settings of the api, and the files that they name."""
